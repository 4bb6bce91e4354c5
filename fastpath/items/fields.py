"""field_lookup: a record of five named fields, what is the value of one of them?

The wrong choices are a value of the asked kind that is not in the record and two values of other fields in
it, so neither the kind of a value nor its standing in the record tells the answer alone.
"""

from itertools import product

from fastpath.items.item import Draw, Item, template_id
from fastpath.items.pools import CITIES, MEN, WOMEN, words

NUM_FIELDS = 5

# Field -> its values, each one token after a space.
FIELDS = {
    "calibration": {
        "place": CITIES["calibration"],
        "person": WOMEN["calibration"] + MEN["calibration"],
        "colour": words("red blue green black white yellow pink brown"),
        "drink": words("coffee tea milk juice water wine beer soda"),
        "material": words("wood steel glass stone clay cotton silk leather"),
        "fruit": words("grapes lemons cherries oranges bananas pears peaches apples"),
    },
    "evaluation": {
        "city": CITIES["evaluation"],
        "name": WOMEN["evaluation"] + MEN["evaluation"],
        "pet": words("cat dog horse rabbit goat parrot snake donkey"),
        "sport": words("tennis football hockey golf chess rugby boxing swimming"),
        "language": words("French German Spanish Italian Russian Greek Dutch Polish"),
        "instrument": words("piano violin guitar flute trumpet harp organ drums"),
        "job": words("doctor nurse teacher baker farmer painter dentist pilot"),
        "vehicle": words("train bus car boat bicycle taxi tram truck"),
    },
    "distillation": {
        "town": CITIES["distillation"],
        "member": WOMEN["distillation"] + MEN["distillation"],
        "room": words("kitchen garage garden attic bathroom bedroom library office"),
        "meal": words("pizza pasta soup salad bread cheese cake curry"),
        "weekday": words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
        "tool": words("rope knife lamp key camera clock mirror umbrella"),
    },
}

# (start, one field with {f} and {v}, separator, end)
LAYOUTS = {
    "calibration": [
        ("", "{f} = {v}", "\n", ""),
        ("[", "{f}: {v}", ", ", "]"),
        ("File: ", "{f} is {v}", "; ", "."),
        ("# ", "{f} ({v})", ", ", ""),
    ],
    "evaluation": [
        ("", "{f}: {v}", "\n", ""),
        ("{", '"{f}": "{v}"', ", ", "}"),
        ("Record: ", "{f} {v}", ", ", "."),
        ("Profile: ", "the {f} is {v}", ", ", "."),
        ("| ", "{f} | {v}", " |\n| ", " |"),
        ("- ", "{f}: {v}", "\n- ", ""),
        ("Form. ", "The {f} is {v}.", " ", ""),
    ],
    "distillation": [
        ("* ", "{f} - {v}", "\n* ", ""),
        ("(", "{f} {v}", "; ", ")"),
        ("Entry: ", "{f}={v}", " ", ""),
        ("---\n", "{f}: '{v}'", "\n", "\n---"),
    ],
}

PHRASINGS = {
    "calibration": ["\nQ: Which {f} is it?\nA:", "\nThe field {f} holds", "\nFor {f} it says", "\nSo {f} is"],
    "evaluation": [
        "\nQuestion: What is the {f}?\nAnswer: The {f} is",
        "\nThe {f} is",
        "\nThe value of {f} is",
        "\nLook up {f}:",
        "\nUnder {f} we find",
        "\n\n{f} =",
    ],
    "distillation": ["\nThe {f} given here is", "\nTell me the {f}. It is", "\nRead the {f}:", "\n{f} ->"],
}


def field_lookup(draw: Draw) -> Item:
    """Five fields in random order; the first sampled is asked, two others lend their values as choices."""
    layout, phrasing = draw.deal("template", list(product(LAYOUTS[draw.split], PHRASINGS[draw.split])))
    rng, pools = draw.rng, FIELDS[draw.split]
    fields = rng.sample(list(pools), NUM_FIELDS)
    values = {field: rng.choice(pools[field]) for field in fields}
    asked, *others = fields
    answer = values[asked]
    absent = rng.choice([value for value in pools[asked] if value != answer])
    rng.shuffle(fields)
    start, line, separator, end = layout
    record = separator.join(line.format(f=field, v=values[field]) for field in fields)
    return draw.item(
        prompt=start + record + end + phrasing.format(f=asked),
        choices=draw.choices(answer, [absent, values[others[0]], values[others[1]]]),
        answer=answer,
        template=template_id("|".join(layout), phrasing),
    )
