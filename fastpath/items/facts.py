"""one_hop: three stated facts, recall one. Wrong choices: the two other cities and one not stated."""

from itertools import product

from fastpath.items.item import Draw, Item, template_id
from fastpath.items.pools import CITIES, words

NUM_FACTS = 3

# Common nouns, not names: the 135M base binds a city to a name at chance (0.23 of 4), to a trade at 0.60.
TRADES = {
    "calibration": words("baker farmer doctor nurse teacher painter pilot driver"),
    "evaluation": words("dentist engineer carpenter chef soldier tailor librarian singer judge sailor"),
    "distillation": words("plumber actor student hunter waiter gardener banker poet"),
}

# One fact up to its city, and the question that asks for it.
RELATIONS = {
    "calibration": [
        ("The {t} lives in", "Where does the {t} live?"),
        ("The {t} studied in", "Where did the {t} study?"),
        ("The {t} drove to", "Where did the {t} drive?"),
        ("The {t} has a house in", "Where is the house of the {t}?"),
    ],
    "evaluation": [
        ("The {t} works in", "Where does the {t} work?"),
        ("The {t} comes from", "Where does the {t} come from?"),
        ("The {t} flew to", "Where did the {t} fly?"),
        ("The {t} was born in", "Where was the {t} born?"),
        ("The {t} moved to", "Where did the {t} move?"),
        ("The {t} is staying in", "Where is the {t} staying?"),
        ("The {t} opened a shop in", "Where is the shop of the {t}?"),
    ],
    "distillation": [
        ("The {t} grew up in", "Where did the {t} grow up?"),
        ("The {t} sent a card from", "Where did the {t} send a card from?"),
        ("The {t} got married in", "Where did the {t} marry?"),
        ("The {t} is on the way to", "Where is the {t} going?"),
    ],
}

# What stands between the facts and the one that is asked, begun in the words of the facts.
PHRASINGS = {
    "calibration": ["\nAgain: ", "\nQ: {q}\nA: ", "\nWe know: ", "\n\nThe text says: "],
    "evaluation": [
        "\n\n",
        "\nQuestion: {q}\nAnswer: ",
        "\nAs written above: ",
        "\nWe read above: ",
        "\nWhat does it say about the {t}?\n",
        "\nTo be clear: ",
    ],
    "distillation": ["\nIt says: ", "\n{q}\nReply: ", "\nPlease remember: ", "\n\nIn short: "],
}


def one_hop(draw: Draw) -> Item:
    """Three trades, three cities, one relation; the question restates the fact of a dealt trade."""
    relation, phrasing = draw.deal("template", list(product(RELATIONS[draw.split], PHRASINGS[draw.split])))
    beginning, question = relation
    trades = draw.rng.sample(TRADES[draw.split], NUM_FACTS)
    cities = draw.rng.sample(CITIES[draw.split], NUM_FACTS + 1)
    facts = " ".join(
        f"{beginning.format(t=trade)} {city}." for trade, city in zip(trades, cities, strict=False)
    )
    asked = draw.deal("asked", range(NUM_FACTS))
    trade, answer = trades[asked], cities[asked]
    return draw.item(
        prompt=facts + phrasing.format(q=question.format(t=trade), t=trade) + beginning.format(t=trade),
        choices=draw.choices(answer, [city for city in cities if city != answer]),
        answer=answer,
        template=template_id("|".join(relation), phrasing),
    )
