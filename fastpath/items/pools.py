"""Names and small facts that fill the templates, one disjoint pool a split.

First names and cities are one token after a space in the SmolLM2 tokenizer, because they are choices.
"""

from random import Random

from fastpath.items.item import SPLITS


def words(text: str) -> list[str]:
    """The words of a text: a pool written on one line."""
    return text.split()


WOMEN = {
    "calibration": words("Anna Carol Emily Hannah Jane Kate Linda Maria Nicole Rosa Susan Tara"),
    "evaluation": words("Alice Clara Diana Ellen Grace Helen Julia Laura Nancy Rachel Sophie Wendy"),
    "distillation": words("Amy Barbara Charlotte Dorothy Eva Janet Karen Lucy Maya Olivia Ruth Sarah"),
}
MEN = {
    "calibration": words("Alan Brian David Eric Felix Hugo Jason Kevin Mario Paul Simon Walter"),
    "evaluation": words("Adam Bruce Carlos Daniel Edward Frank George Henry Martin Oscar Peter Victor"),
    "distillation": words("Arthur Bob Craig Diego Ethan Fred Harry Ivan Jack Leo Noah Thomas"),
}
FIVE_LETTERS = {split: [name for name in WOMEN[split] + MEN[split] if len(name) == 5] for split in SPLITS}
"""For the depth dials: whom a question names changes the length of no prompt."""
SURNAMES = {
    "calibration": words("Novak Weber Costa Patel Fischer Ruiz Conti Singh Larsen Moreau"),
    "evaluation": words("Torres Okafor Kim Haddad Silva Byrne Adams Cohen Kowalski Tanaka"),
    "distillation": words("Petrova Castle Mbeki Jensen Rossi Dubois Nakamura Horvat Lindgren Osei"),
}
FIRMS = {
    "calibration": [
        "Northwind Supply",
        "Cedar & Sons",
        "Granite Works",
        "Ivory Press",
        "Kestrel Media",
        "Orchid Farms",
    ],
    "evaluation": [
        "Blue Harbor Ltd",
        "Delta Foods",
        "Falcon Freight",
        "Helio Energy",
        "Juniper Clinic",
        "Lumen Optics",
    ],
    "distillation": [
        "Amber Mills",
        "Borealis Air",
        "Copper Lane",
        "Evergreen Labs",
        "Mosaic Tiles",
        "Willow Homes",
    ],
}
CITIES = {
    "calibration": words("London Rome Berlin Dallas Miami Athens Geneva Austin Delhi Glasgow Seoul Helsinki"),
    "evaluation": words("Paris Vienna Dublin Denver Seattle Oslo Cairo Milan Toronto Prague Sydney Boston"),
    "distillation": words(
        "Madrid Tokyo Lisbon Houston Moscow Zurich Phoenix Leeds Munich Havana Brussels Atlanta"
    ),
}
# Two words at most, "_" for the space between them.
PRODUCTS = {
    split: [product.replace("_", " ") for product in words(products)]
    for split, products in {
        "calibration": "office_chair phone_case air_purifier toaster bookcase rucksack hair_dryer kettle",
        "evaluation": "desk_lamp printer water_filter coffee_grinder steel_shelf wall_clock blender raincoat",
        "distillation": "garden_hose bread_knife tripod microwave sofa_bed bicycle_pump radio heater",
    }.items()
}
MONTHS = words("January February March April May June July August September October November December")


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
