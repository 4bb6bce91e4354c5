"""The words of the speed measurement: what was measured stands there, beside what is possible."""

import pytest
from tiny import narrow_llama

from eval.ceilings import Sizes
from eval.speed import measure_speed
from eval.speed_tables import headline_ratios, speed_grid_table, speed_table


@pytest.fixture(scope="module")
def several():
    models = {"base": narrow_llama(depth=3), "fast": narrow_llama(depth=2)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eval.ceilings.SIZES", {"cpu": Sizes(2**16, 16, 1)})
        return measure_speed(models, prompt_tokens=[8, 4], batch_size=[1, 2], new_tokens=3)


def row_of(table, words: str) -> tuple[str, ...]:
    (row,) = [row for row in table.rows if row[0] == words]
    return row


def test_the_headline_says_every_measure_and_the_ideal_beside_the_ratio(several):
    table = speed_table(several)
    assert table.headings == ("", "base", "fast")
    assert row_of(table, "KV cache, KB/token")[1:] == ("0.192", "0.128")  # 3 and 2 blocks x 2 x 8 x 4 bytes
    ratio = headline_ratios(several, "fast")["decode_tokens_per_second"]
    ideal = several["models"]["fast"]["ideal_decode_ratio"]
    assert row_of(table, "decode, over base")[1:] == ("1.00", f"{ratio:.2f} (ideal {ideal:.2f})")
    p95 = several["points"][0]["models"]["fast"]["inter_token_p95_seconds"]
    assert float(row_of(table, "between tokens, p95, ms")[2]) == pytest.approx(1e3 * p95, rel=1e-2)
    assert "prompt 8 tokens, 3 new, batch 1" in table.note and several["device_name"] in table.note
    assert "bytes read + written" in table.note and "compiled" not in table.note


def test_the_headline_fits_a_terminal_of_80_columns(several):
    table = speed_table(several)
    widths = [max(len(row[column]) for row in table.rows) for column in range(3)]
    assert sum(widths) + 2 * 3 <= 80


def test_a_row_a_shape_only_where_there_are_several(several):
    table = speed_grid_table(several)
    assert [row[:2] for row in table.rows] == [("8", "1"), ("8", "2"), ("4", "1"), ("4", "2")]
    assert table.headings[2:] == ("base prefill", "base decode", "fast prefill", "fast decode")
    assert all(len(row) == len(table.headings) for row in table.rows)
    assert speed_grid_table(several | {"points": several["points"][:1]}) is None


def test_what_was_not_measured_is_called_so(several):
    point = several["points"][0]
    base = point["models"]["base"] | {"peak_bytes": None}
    without = several | {"points": [point | {"models": point["models"] | {"base": base}}]}
    assert row_of(speed_table(without), "peak memory, MB")[1] == "not measured"
