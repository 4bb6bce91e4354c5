"""date_pick: a short list of dated events, in which month is one of them? Every choice stands in the list."""

from itertools import product

from fastpath.items.item import Draw, Item, template_id
from fastpath.items.pools import MONTHS, fill

NUM_EVENTS = 4

EVENTS = {
    "calibration": ["audit", "harvest", "rehearsal", "repair", "elections", "ski trip", "vaccination", "book fair"],
    "evaluation": ["wedding", "delivery", "interview", "first payment", "exam", "inspection", "concert", "surgery",
                   "board meeting", "departure"],
    "distillation": ["launch", "auction", "farewell party", "hearing", "marathon", "renovation", "oil change",
                     "workshop"],
}  # fmt: skip

# (heading, one line an event with {e} or {E} and {d}, separator, date)
LAYOUTS = {
    "calibration": [
        ("Plan of {n}:", "{d} {e}", "\n", "{day}. {month}"),
        ("{f}, {c}.", "{E} on {d}.", " ", "{day} {month}"),
        ("Reminders", "[{e}] {d}", "\n", "{month} {day}"),
        ("Timetable:", "{e} / {d}", ", ", "{month} {day}"),
    ],
    "evaluation": [
        ("Calendar of {n}", "{E}: {d}", "\n", "{day} {month}"),
        ("Notes for {f}.", "The {e} is on {d}.", " ", "{month} {day}"),
        ("Diary, {c}:", "{e} {d}", "; ", "{day} {month}"),
        ("To do, {n}", "* {E} ({d})", "\n", "{month} {day}"),
        ("| event | date |", "| {e} | {d} |", "\n", "{day} {month}"),
        ("{f} agenda", "{d}: {e}", "\n", "{month} {day}"),
        ("Dear {n}, please note:", "{e} - {d}", ", ", "{day} {month}"),
    ],
    "distillation": [
        ("Dates, {n}", "{E} = {d}", "\n", "{month} {day}"),
        ("Year plan of {f}:", "{d} is the day of the {e}.", " ", "{day} {month}"),
        ("{c} office", "- {d}, {e}", "\n", "{day} {month}"),
        ("Hello {n}!", "We have the {e} on {d}.", " ", "{month} {day}"),
    ],
}  # fmt: skip

PHRASINGS = {
    "calibration": [
        "\nThe {e} takes place in the month of",
        "\nQuestion: In what month will the {e} be?\nAnswer: In",
        "\nWe will have the {e} in",
        "\nMonth ({e}):",
    ],
    "evaluation": [
        "\nThe month of the {e} is",
        "\nQuestion: Which month is the {e} in?\nAnswer:",
        "\nThe {e} is in",
        "\nMonth of the {e}:",
        "\nQ: When is the {e}?\nA: In",
        "\nSo the {e} will be in",
    ],
    "distillation": [
        "\nThe {e} happens in",
        "\nQ: Which month has the {e}?\nA:",
        "\nName of the month of the {e}:",
        "\nThe date of the {e} is in",
    ],
}


def date_pick(draw: Draw) -> Item:
    """Four events in four months; the question names one of them, at a dealt place in the list."""
    layout, phrasing = draw.deal("template", list(product(LAYOUTS[draw.split], PHRASINGS[draw.split])))
    heading, line, separator, date = layout
    rng = draw.rng
    events, months = rng.sample(EVENTS[draw.split], NUM_EVENTS), rng.sample(MONTHS, NUM_EVENTS)
    lines = []
    for event, month in zip(events, months, strict=True):
        day = date.format(day=rng.randrange(1, 29), month=month)
        lines.append(line.format(e=event, E=event.capitalize(), d=day))
    space = " " if separator == " " else "\n"
    text = fill(heading, rng, draw.split) + space + separator.join(lines)
    asked = draw.deal("asked", range(NUM_EVENTS))
    answer = months[asked]
    choices = draw.choices(answer, [month for month in months if month != answer])
    return draw.item(
        prompt=text + phrasing.format(e=events[asked]),
        choices=choices,
        answer=answer,
        template=template_id("|".join(layout), phrasing),
    )
