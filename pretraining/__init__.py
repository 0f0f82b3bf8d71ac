"""The bundled trainer: objectives, encoders, one loop."""
