"""What `bench.first_steps` counts: planted mistakes that are said, and orders of bytes that are named."""

from __future__ import annotations

from pathlib import Path

from bench.first_steps import Found, check_planted, names_order, orders_found


def test_twenty_planted_mistakes_are_twenty_problems_with_line_column_and_remedy() -> None:
    assert check_planted() == Found(planted=20, said=20, others=0)


async def test_a_wrong_order_of_bytes_is_found_with_one_command(tmp_path: Path) -> None:
    tags = await orders_found(tmp_path)

    assert tags.pop("big-big") == ("ok", ())
    assert len(tags) == 3
    for tag, (verdict, remarks) in tags.items():
        assert verdict == "look"
        assert names_order(tag, remarks), (tag, remarks)
