"""A folder of WAV and FLAC, each with its text in a file of its own or in a table."""

from __future__ import annotations

from storage.source import AUDIO_LIKE_SUFFIXES, audio_kind
from storage.sources.image_folder import ImageFolder


class AudioFolder(ImageFolder):
    """Read each audio file as `ImageFolder` reads images; its path below the root is its id.

    The text, such as a transcript, is that of `<stem>.txt`, or a column of `<stem>.json`, or of the
    row of a table in the layout of Hugging Face's AudioFolder. Files of other formats, such as MP3,
    are taken too, so that they are quarantined with a reason.

    Rejects:
        SYMLINK, SPECIAL_FILE, UNREADABLE, SOURCE_GONE, TOO_LARGE (64 MiB),
        CHANGED_WHILE_READING, what `record_of` says, and rows of a table that cannot be read, whose
        clips then have no text.
    Cost: memory for the names of one folder and the tables of captions.
    """

    kind = "audio"
    noun = "clip"
    suffixes = tuple(sorted(AUDIO_LIKE_SUFFIXES))
    kind_of_head = staticmethod(audio_kind)
