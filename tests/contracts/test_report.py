from __future__ import annotations

import json

from contracts.report import Metric


def test_a_metric_is_four_numbers_and_a_direction_in_json_and_one_line_for_people() -> None:
    metric = Metric(0.5, 8, 0.25, 0.75)
    assert json.loads(json.dumps(metric.to_dict())) == {
        "value": 0.5,
        "n": 8,
        "low": 0.25,
        "high": 0.75,
        "higher_is_better": True,
    }
    assert str(metric) == "0.5 [0.25, 0.75] (n = 8)"
