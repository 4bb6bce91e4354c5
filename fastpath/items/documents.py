"""doc_type: a short document, which of six types is it? The label words never occur in a document."""

from fastpath.items.item import Draw, Item, template_id
from fastpath.items.pools import fill

LABELS = ("recipe", "invoice", "agreement", "resume", "news", "complaint")

# One body a line, one template each: the evaluation split has 7 a label, the others 3.
BODIES = {
    "evaluation": {
        "recipe": """\
Cut {q} onions and fry them in {k} drops of oil. Add salt, stir in the lentils and simmer. {n}'s kitchen
{n}'s fish soup. Boil {q} potatoes, add leeks and cod, cook gently and top with dill. Takes {q}0 minutes.
Roast lamb, {c} style. Rub the meat with garlic, cover it and bake for {q} hours. Serve with {n}'s sauce.
From {n}: beat {q} eggs with sugar, fold in flour and butter, pour into a tin, bake until golden. Slice.
{c} pancakes. Whisk milk, flour and {q} eggs, rest the batter, fry in butter. Idea by {n}.
Mix yeast with warm water, knead the dough {q} minutes, let it rise, then bake. Makes {q} {c} loaves. {n}
{n}'s salad: chop cucumber, {q} tomatoes and mint. Dress with lemon and olive oil. Eaten in {c}.""",
        "invoice": """\
Bill to: {n}, {c}. {q} x {p} at {m} each. Subtotal {m2}. Tax 8%. Total due in 30 days.
{f}. Billed to {n}. Item: {p}, quantity {q}, unit price {m}. Amount due: {m2}.
To: {f}. From: {f2}. {q} days of consulting at {m} a day. VAT 20%. Amount payable: {m2}, net 14 days.
Customer no. {k}: {n}. {p}, {q} pieces, {m}. Postage {q}.50. Balance due by {d}. Pay by bank transfer.
Billed on {d} by {f}. Repair of one {p}, {q} hours at {m}. Parts {m2}. Please pay within 10 days.
{f}, {c}. Charges to {f2} for {d}: cleaning {m}, windows {m2}. Sum payable net {q} days.
Account {k}, {n}. Electricity used: {q}{q} kWh. Unit price {q} cents. Tax. Total amount due {m} on {d}.""",
        "agreement": """\
This contract is made on {d} between {f} (the Supplier) and {f2} (the Client). Either party may end it.
This lease is between {n} (Landlord) and {n2} (Tenant). Rent: {m} a month. The Tenant shall not sublet.
The parties, {f} and {n}, hereby promise: 1. Term of {q} years. 2. Secrecy. 3. The law of {c} applies.
{n} (the Seller) shall sell and {n2} (the Buyer) shall buy the boat for {m}. Signed by both on {d}.
Terms between {f} and {n}: the Employee shall work {q} hours a day. Either side may terminate in writing.
The Licensor, {f}, grants {f2} the sole right to use the software until {d}, subject to clause {q}.
{n} shall paint the house of {n2} by {d}. The Owner shall pay {m}. Breach of these terms ends the deal.""",
        "resume": """\
{n}. Work experience: manager at {f}, {q} years. Education: BSc in economics. Skills: Excel, French.
{n}, {c}. Objective: to work as an analyst. Experience: {f}, {q} years. Education: MSc. Skills: SQL.
{n}. Employment history: {f}, {f2}. Qualifications: diploma in accounting. Languages: English. Hobby: chess.
Name: {n}. Degree: nursing, {c}. Career: ward nurse for {q} years. Skills: first aid. References on request.
{n}, software engineer, {c}. Skills: Python, Java. Past jobs: {f} ({q} years), {f2}. Education: PhD.
{n}, teacher. Education: University of {c}. Positions held: {q} schools. Awards: best tutor. Referees: {n2}.
About me: {n}, cook with {q} years of experience at {f}. Training: hotel school, {c}. Strength: calm.""",
        "news": """\
{c}, {d}. {f} said on Tuesday that it would open a plant, creating {q}00 jobs, the mayor announced.
Heavy rain closed roads around {c} on {d}, officials said. About {q}00 homes lost power.
{c} - Police are looking for witnesses after a robbery on Friday. Two men fled with {m}, a spokesman said.
Voters in {c} go to the polls on {d}. {n} leads by {q} points, according to a survey published today.
A fire destroyed {q} shops in {c} overnight, the fire chief {n} told reporters. Nobody was hurt.
Shares of {f} fell {q} percent on {d} after the firm reported a loss, analysts in {c} said.
{c} beat the visitors {q} to 1 last night. {n} scored twice before 2{k} fans, the club reported.""",
        "complaint": """\
Dear manager, the {p} I bought on {d} broke after {q} days. I am very disappointed and want a refund. {n}
I am writing because your driver was rude to me in {c} on {d}. This is unacceptable. {n}
The room in {c} was dirty and nobody helped me. I am very unhappy; return the {m} that I paid. {n}
To {f}: I have phoned {q} times about my faulty {p} and got no answer. I am angry. {n}
Your staff lost my {p} and did not say sorry. This is the worst service in {c}. I want {m} back. {n}
My meal at your {c} branch was cold and we waited {q}0 minutes. I will not come back. {n}
The noise from your building site keeps us awake in {c}. I have asked {q} times. It must stop. {n}""",
    },
    "calibration": {
        "recipe": """\
Preheat the oven. Mix {q}00 g sugar with butter, add {q} eggs, then flour. Bake and leave to cool. {n}
Soak {q}00 g chickpeas, drain, blend with lemon and salt. Serve with warm {c} bread. By {n}.
{n}'s stew: brown the beef, add {q} carrots, pour in stock, cover and cook for {q} hours. Season.""",
        "invoice": """\
Sold to {n}: one {p}, {m}. Sales tax {q}%. Amount due {m2}. Payment is due on {d}.
{f} bills {f2}: {q} hours of design at {m}. VAT 19%. Total payable: {m2}. Net 30 days.
Order ref {k}. {q} units of {p} at {m}. Delivery free. Balance due: {m2}. Bank: {f}.""",
        "agreement": """\
{f} and {f2} are bound as follows. The Agent shall act in {c} only. Term: {q} years from {d}. Signed.
This contract binds {n} (the Author) and {f} (the Publisher). The Author shall deliver by {d}.
The Tenant, {n}, shall pay {m} a month to the Owner, {n2}. Either party may give {q} weeks' notice.""",
        "resume": """\
{n}, {c}. Education: BA in history. Experience: {q} years as clerk at {f}. Skills: typing, German.
Profile: {n}, electrician. Past employers: {f}, {f2}. Certificates: safety. Experience: {q} years.
{n}. Career summary: {q} years in retail at {f}. Degree: marketing, {c}. Languages: Spanish.""",
        "news": """\
{c}: trains stopped on {d} after a storm, the operator said. {q}00 travellers were stranded.
The city council of {c} voted on Thursday to close {q} schools, mayor {n} told the press.
{f} will cut {q}00 jobs in {c}, a spokeswoman confirmed on {d}. Unions called for a strike.""",
        "complaint": """\
Dear sir, the {p} from {f} arrived damaged. I am very upset and expect my {m} back. {n}
I stayed in {c} on {d}. The heating failed and your staff laughed at me. This is not acceptable. {n}
For {q} weeks {f} has ignored my calls about a broken {p}. I am furious and demand an answer. {n}""",
    },
    "distillation": {
        "recipe": """\
Melt {q}00 g chocolate, stir in cream, chill for {q} hours and roll into balls. Dust with cocoa. {n}
{c} noodles: fry ginger and {q} cloves of garlic, toss in noodles and soy sauce. Serves {q}. {n}
Peel {q} apples, add cinnamon and sugar, wrap in pastry and bake until brown. {n}, {c}.""",
        "invoice": """\
Client: {f2}. {q} nights at {m}. City tax {q}.00. Total due: {m2}. Please transfer to {f}.
For {n}: plumbing, {q} hours, {m}. Materials {m2}. Sum due by {d}. Account {k}.
{f}: subscription for {q} users at {m}. Tax 21%. Amount payable {m2}, due {d}.""",
        "agreement": """\
{f} (Lender) lends {n} (Borrower) {m}, to be repaid by {d}. The Borrower shall pay {q}% interest.
The parties {n} and {n2} declare that each of them owns half of {f}. Disputes go to the courts of {c}.
The Carrier, {f}, shall move the goods of {f2} to {c} by {d}. Liability is limited to {m}. Signed.""",
        "resume": """\
{n}, designer. Studied in {c}. Worked at {f} and {f2} for {q} years. Skills: drawing, Photoshop.
Work history of {n}: driver, {f}, {q} years; guard, {f2}. School: {c}. Licence: trucks.
{n}, {c}. Qualified accountant. Experience: {q} years. Education: MBA. Interests: sailing.""",
        "news": """\
{n}, the minister, resigned on {d}, state radio in {c} reported. {q} others may follow.
Scientists in {c} announced on {d} that they had found {q} kinds of beetle, the journal said.
A bridge in {c} collapsed early on {d}; {q} people were taken to hospital, police said.""",
        "complaint": """\
My {p} stopped working after {q} days and {f} refuses to help. I am disgusted. Give me my money back. {n}
Dear {f}, your bus in {c} was {q}0 minutes late again. I am tired of such poor service. {n}
I was charged {m} for a meal that made me ill in {c} on {d}. I expect an apology. {n}""",
    },
}


def doc_type(draw: Draw) -> Item:
    """One document of a dealt type; templates are dealt within the type."""
    label = draw.deal("label", LABELS)
    bodies = BODIES[draw.split][label].splitlines()
    body = draw.deal(label, bodies, turn=draw.index // len(LABELS))
    text = fill(body, draw.rng, draw.split)
    prompt = f"Document: {text}\nType of document:"
    return draw.item(prompt=prompt, choices=LABELS, answer=label, template=template_id(body))
