"""orders: a customer sends something back. Row: one order."""

from eval.agent.tools import Argument, Domain, Tool
from fastpath.items.pools import MEN, PRODUCTS, SURNAMES, WOMEN

RANGES = {
    "evaluation": range(4000, 7000),
    "calibration": range(1000, 4000),
    "distillation": range(7000, 9999),
}
CUSTOMERS = {
    split: tuple(f"{first} {last}" for first in WOMEN[split] + MEN[split] for last in SURNAMES[split])
    for split in WOMEN
}

ORDERS = Domain(
    name="orders",
    key="order_id",
    known_as="order {order_id}",
    found_as="the order of {customer}",
    arguments={
        "order_id": Argument("integer", {s: tuple(r) for s, r in RANGES.items()}, ("order_no", "order")),
        "customer": Argument("string", CUSTOMERS, ("client", "buyer")),
        "item": Argument("string", {split: tuple(products) for split, products in PRODUCTS.items()}),
        "paid": Argument("integer", {s: tuple(range(100, 400)) for s in RANGES}),
        "code": Argument("integer", {s: tuple(range(r[0] // 10, r[-1] // 10)) for s, r in RANGES.items()},
                         ("pin", "secret")),
        "carrier": Argument(
            "string",
            {
                "evaluation": ("Falcon", "Juniper", "Lumen", "Delta"),
                "calibration": ("Kestrel", "Cedar", "Granite"),
                "distillation": ("Copper", "Willow", "Amber"),
            },
            ("courier", "company"),
        ),
        "dollars": Argument("integer", {s: tuple(range(10, 95, 5)) for s in RANGES}, ("amount", "sum")),
        "notify": Argument("boolean", {}, ("silent", "send_mail")),
        "shelf": Argument("integer", {s: tuple(range(11, 60)) for s in RANGES}, ("place", "rack")),
        "topic": Argument(
            "string",
            {
                "evaluation": ("refund", "delay", "thanks"),
                "calibration": ("return", "survey"),
                "distillation": ("apology", "voucher"),
            },
            ("subject", "title"),
        ),
    },
    facts={"customer": "customer", "item": "item", "paid": "paid"},
    steps=(
        Tool(name="find_order", does="find a customer's order", takes=("customer",),
             says="order {order_id}", asks=("find it", "look it up", "search for it", "get its number")),
        Tool(name="read_order", does="show an order", takes=("order_id",), needs="find_order",
             says="{item}, paid ${paid}", asks=("read it", "open it", "have a look at it", "view it")),
        Tool(name="verify_customer", does="check the customer's code", takes=("order_id", "code"),
             needs="read_order", says="verified",
             asks=("verify the customer with code {code}", "check the customer's code {code}",
                   "make sure of the customer by code {code}", "identify the customer by code {code}")),
        Tool(name="hold_order", does="stop a parcel that is not sent yet", takes=("order_id",),
             needs="verify_customer", says="held",
             asks=("put it on hold", "hold it", "stop it for now", "let it wait")),
        Tool(name="print_label", does="print a label to send it back", takes=("order_id", "carrier"),
             needs="hold_order", says="label for {carrier}",
             asks=("print a return label for {carrier}", "make a {carrier} return label",
                   "prepare a label of {carrier}", "get a label by {carrier}")),
        Tool(name="refund", does="pay money back, with or without a mail", needs="print_label",
             takes=("order_id", "dollars", "notify"), says="${dollars} paid back", reversible=False,
             asks=("refund ${dollars} with notify {notify}", "pay back ${dollars}, notify {notify}",
                   "return ${dollars} (notify: {notify})", "give ${dollars} back, notify is {notify}")),
        Tool(name="restock", does="put the item back on a shelf", takes=("order_id", "shelf"), needs="refund",
             says="on shelf {shelf}",
             asks=("restock the item on shelf {shelf}", "put the item on shelf {shelf}",
                   "bring the item to shelf {shelf}", "store the item at shelf {shelf}")),
        Tool(name="email_customer", does="write to the customer", takes=("order_id", "topic"),
             needs="restock", says="sent", reversible=False,
             asks=("mail the customer about {topic}", "write to the customer about {topic}",
                   "email the customer, topic {topic}", "send the customer a {topic} mail")),
    ),
    decoys=(
        Tool(name="add_note", does="note something on an order", takes=("order_id",), says="noted"),
        Tool(name="move_parcel", does="move the parcel to a shelf", takes=("order_id", "shelf"),
             says="moved"),
        Tool(name="cancel_order", does="cancel an order for good", takes=("order_id",), reversible=False,
             says="cancelled"),
        Tool(name="charge_card", does="take money from the card", takes=("order_id", "dollars"),
             reversible=False, says="charged"),
    ),
)  # fmt: skip
