"""field_lookup: a record of named fields, what is the value of one of them? All choices are of its kind."""

from itertools import product

from fastpath.items.item import Draw, Item, template_id
from fastpath.items.pools import CITIES, MEN, WOMEN

NUM_ASKED, NUM_OTHER = 4, 2

PEOPLE_FIELDS = {
    "calibration": ["author", "captain", "teacher", "seller", "judge", "sponsor"],
    "evaluation": ["owner", "editor", "driver", "tenant", "coach", "guide", "chef", "lawyer"],
    "distillation": ["buyer", "pilot", "nurse", "tutor", "builder", "agent"],
}
CITY_FIELDS = {
    "calibration": ["depot", "port", "branch", "studio", "museum", "camp"],
    "evaluation": ["office", "birthplace", "factory", "destination", "warehouse", "venue", "school", "shop"],
    "distillation": ["airport", "hotel", "plant", "origin", "campus", "garage"],
}

# (start, one field with {f} and {v}, separator, end)
LAYOUTS = {
    "calibration": [
        ("", "{f} = {v}", "\n", ""),
        ("[", "{f}: {v}", ", ", "]"),
        ("File. ", "{f} is {v}", "; ", "."),
        ("", "{f}\t{v}", "\n", ""),
    ],
    "evaluation": [
        ("", "{f}: {v}", "\n", ""),
        ("{{", '"{f}": "{v}"', ", ", "}}"),
        ("Record: ", "{f} {v}", ", ", "."),
        ("<r>", "<{f}>{v}</{f}>", "", "</r>"),
        ("| ", "{f} | {v}", " |\n| ", " |"),
        ("", "- {f}: {v}", "\n", ""),
        ("Form. ", "The {f} is {v}.", " ", ""),
    ],
    "distillation": [
        ("", "* {f} - {v}", "\n", ""),
        ("(", "{f} {v}", "; ", ")"),
        ("Entry: ", "{f}={v}", " ", ""),
        ("---\n", "{f}: '{v}'", "\n", "\n---"),
    ],
}  # fmt: skip

PHRASINGS = {
    "calibration": [
        "\nQ: Who or what is the {f}?\nA:",
        "\nThe field {f} holds",
        "\nFor {f} it says",
        "\nSo {f} is",
    ],
    "evaluation": [
        "\nQuestion: What is the {f}?\nAnswer:",
        "\nThe {f} is",
        "\nThe value of {f} is",
        "\nLook up {f}:",
        "\nUnder {f} we find",
        "\n{f} =",
    ],
    "distillation": [
        "\nThe {f} given here is",
        "\nWhat does it say for {f}?\nIt says",
        "\nRead the {f}:",
        "\n{f} ->",
    ],
}


def field_lookup(draw: Draw) -> Item:
    """Four fields of one kind (people or cities) among two of the other kind; the question names one."""
    layout, phrasing = draw.deal("template", list(product(LAYOUTS[draw.split], PHRASINGS[draw.split])))
    rng, split = draw.rng, draw.split
    kinds = [(PEOPLE_FIELDS[split], WOMEN[split] + MEN[split]), (CITY_FIELDS[split], CITIES[split])]
    asked_kind = draw.deal("kind", [0, 1])
    record: list[tuple[str, str]] = []
    for kind, size in ((asked_kind, NUM_ASKED), (1 - asked_kind, NUM_OTHER)):
        fields, values = kinds[kind]
        record += zip(rng.sample(fields, size), rng.sample(values, size), strict=True)
    candidates = record[:NUM_ASKED]
    rng.shuffle(record)
    field, answer = rng.choice(candidates)
    start, line, separator, end = layout
    text = separator.join(line.format(f=name, v=value) for name, value in record)
    return draw.item(
        prompt=start.format() + text + end.format() + phrasing.format(f=field),
        choices=draw.choices(answer, [value for _, value in candidates if value != answer]),
        answer=answer,
        template=template_id("|".join(layout), phrasing),
    )
