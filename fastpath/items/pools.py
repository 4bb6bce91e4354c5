"""Names and small facts that fill the templates, one disjoint pool a split.

First names and cities are one token after a space in GPT-2, Llama and SmolLM2 style tokenizers, because they are choices.
"""

from random import Random

from fastpath.items.item import SPLITS

WOMEN = {
    "calibration": "Anna Carol Emily Hannah Jane Kate Linda Maria Nicole Rosa Susan Tara".split(),
    "evaluation": "Alice Clara Diana Ellen Grace Helen Julia Laura Nancy Rachel Sophie Wendy".split(),
    "distillation": "Amy Barbara Charlotte Dorothy Eva Janet Karen Lucy Maya Olivia Ruth Sarah".split(),
}
MEN = {
    "calibration": "Alan Brian David Eric Felix Hugo Jason Kevin Mario Paul Simon Walter".split(),
    "evaluation": "Adam Bruce Carlos Daniel Edward Frank George Henry Martin Oscar Peter Victor".split(),
    "distillation": "Arthur Bob Craig Diego Ethan Fred Harry Ivan Jack Leo Noah Thomas".split(),
}
SURNAMES = {
    "calibration": "Novak Weber Costa Patel Fischer Ruiz Conti Singh Larsen Moreau".split(),
    "evaluation": "Torres Okafor Kim Haddad Silva Byrne Adams Cohen Kowalski Tanaka".split(),
    "distillation": "Petrova Castle Mbeki Jensen Rossi Dubois Nakamura Horvat Lindgren Osei".split(),
}
FIRMS = {
    "calibration": ["Northwind Supply", "Cedar & Sons", "Granite Works", "Ivory Press", "Kestrel Media", "Orchid Bank"],
    "evaluation": ["Blue Harbor Ltd", "Delta Foods", "Falcon Freight", "Helio Energy", "Juniper Clinic", "Lumen Software"],
    "distillation": ["Amber Mills", "Borealis Air", "Copper Lane", "Evergreen Labs", "Mosaic Tiles", "Willow Homes"],
}
CITIES = {
    "calibration": "London Rome Berlin Dallas Miami Athens Geneva Austin Delhi Glasgow Seoul Helsinki".split(),
    "evaluation": "Paris Vienna Dublin Denver Seattle Oslo Cairo Milan Toronto Prague Sydney Boston".split(),
    "distillation": "Madrid Tokyo Lisbon Houston Moscow Zurich Phoenix Leeds Munich Havana Brussels Atlanta".split(),
}
PRODUCTS = {
    "calibration": ["office chair", "phone case", "air purifier", "toaster", "bookcase", "rucksack", "hair dryer", "kettle"],
    "evaluation": ["desk lamp", "laser printer", "water filter", "coffee grinder", "steel shelf", "wall clock", "blender",
                   "rain jacket"],
    "distillation": ["garden hose", "bread knife", "tripod", "microwave", "sofa bed", "bicycle pump", "radio", "heater"],
}  # fmt: skip
MONTHS = "January February March April May June July August September October November December".split()


def person(rng: Random, split: str) -> str:
    """A first name and a surname of the split."""
    return f"{rng.choice(WOMEN[split] + MEN[split])} {rng.choice(SURNAMES[split])}"


def fill(text: str, rng: Random, split: str) -> str:
    """`text` with its slots {n} {n2} person, {f} {f2} firm, {c} city, {p} product, {m} {m2} money, {d} date,
    {q} 2 to 9, {k} four digits filled from the pools of the split."""
    assert split in SPLITS
    first, second = rng.sample(FIRMS[split], 2)
    return text.format(
        n=person(rng, split), n2=person(rng, split), f=first, f2=second, c=rng.choice(CITIES[split]),
        p=rng.choice(PRODUCTS[split]), q=rng.randrange(2, 10), k=rng.randrange(1000, 10000),
        m=f"${rng.randrange(12, 980)}", m2=f"${rng.randrange(12, 980)}",
        d=f"{rng.choice(MONTHS)} {rng.randrange(1, 29)}",
    )  # fmt: skip
