"""date_pick: four dated events, in which month is one of them? Every choice stands in the text."""

from itertools import product

from fastpath.items.item import Draw, Item, template_id
from fastpath.items.pools import MONTHS, fill, words

NUM_EVENTS = 4

EVENTS = {
    "calibration": words("audit harvest rehearsal repair election vaccination festival conference"),
    "evaluation": words(
        "wedding delivery interview exam inspection concert surgery departure picnic lecture"
    ),
    "distillation": words("launch auction party hearing marathon renovation workshop parade"),
}

# (heading, one event up to its date, mark after the date, separator)
LAYOUTS = {
    "calibration": [
        ("Plan of {n}.", "The {e} will be on", ".", " "),
        ("Dates at {f}.", "Date of the {e}:", "", "\n"),
        ("Timetable, {c}.", "The {e} starts on", ".", " "),
        ("Reminders.", "* {e},", "", "\n"),
    ],
    "evaluation": [
        ("Calendar of {n}.", "The {e} is on", ".", " "),
        ("Notes for {f}.", "The {e} takes place on", ".", " "),
        ("Diary, {c}.", "{e}:", "", "\n"),
        ("To do, {n}.", "The date of the {e} is", ".", " "),
        ("Agenda of {f}.", "We hold the {e} on", ".", " "),
        ("Dear {n}, please note.", "- {e} on", "", "\n"),
        ("News from {c}.", "The {e} was moved to", ".", " "),
    ],
    "distillation": [
        ("Year plan of {f}.", "The {e} happens on", ".", " "),
        ("Hello {n}!", "We have the {e} on", ".", " "),
        ("{c} office.", "{e} =", "", "\n"),
        ("Schedule.", "The {e} was set for", ".", " "),
    ],
}

# What stands between the text and the event that is asked, begun in the words of the text.
PHRASINGS = {
    "calibration": ["\nAgain: ", "\nQ: On what date is the {e}?\nA: ", "\nWe know: ", "\n\nThe text says: "],
    "evaluation": [
        "\n\n",
        "\nQuestion: When is the {e}?\nAnswer: ",
        "\nAs written above: ",
        "\nWe read above: ",
        "\nWhat does it say about the {e}?\n",
        "\nTo be clear: ",
    ],
    "distillation": ["\nIt says: ", "\nWhen is the {e}?\nReply: ", "\nPlease remember: ", "\n\nIn short: "],
}


def date_pick(draw: Draw) -> Item:
    """Four events in four months; the question names one of them, at a dealt place in the text."""
    layout, phrasing = draw.deal("template", list(product(LAYOUTS[draw.split], PHRASINGS[draw.split])))
    heading, beginning, mark, separator = layout
    rng = draw.rng
    events, months = rng.sample(EVENTS[draw.split], NUM_EVENTS), rng.sample(MONTHS, NUM_EVENTS)
    days = rng.sample(range(1, 29), NUM_EVENTS)
    lines = [
        f"{beginning.format(e=event)} {month} {day}{mark}"
        for event, month, day in zip(events, months, days, strict=True)
    ]
    text = fill(heading, rng, draw.split) + separator + separator.join(lines)
    asked = draw.deal("asked", range(NUM_EVENTS))
    answer, event = months[asked], events[asked]
    return draw.item(
        prompt=text + phrasing.format(e=event) + beginning.format(e=event),
        choices=draw.choices(answer, [month for month in months if month != answer]),
        answer=answer,
        template=template_id("|".join(layout), phrasing),
    )
