"""How many items hub tasks have in the split that lm-eval scores, for a plan made without a download.

Counted in the authors' own files (ARC, PIQA, OpenBookQA, WinoGrande, LAMBADA, GSM8K, BBH, IFEval) or stated
in the papers (BoolQ, SciQ, SST-2, HellaSwag, MATH, MuSR, and arithmetic of GPT-3, 2,000 a kind).
"""

_BBH = {
    "causal_judgement": 187, "penguins_in_a_table": 146, "snarks": 178,
    **dict.fromkeys((
        "boolean_expressions", "date_understanding", "disambiguation_qa", "dyck_languages",
        "formal_fallacies", "geometric_shapes", "hyperbaton", "logical_deduction_five_objects",
        "logical_deduction_seven_objects", "logical_deduction_three_objects", "movie_recommendation",
        "multistep_arithmetic_two", "navigate", "object_counting", "reasoning_about_colored_objects",
        "ruin_names", "salient_translation_error_detection", "sports_understanding", "temporal_sequences",
        "tracking_shuffled_objects_five_objects", "tracking_shuffled_objects_seven_objects",
        "tracking_shuffled_objects_three_objects", "web_of_lies", "word_sorting",
    ), 250),
}  # fmt: skip
_MATH = {
    "algebra": 1187, "counting_and_prob": 474, "geometry": 479, "intermediate_algebra": 903,
    "num_theory": 540, "prealgebra": 871, "precalc": 546,
}  # fmt: skip
HUB_ITEMS: dict[str, int] = {
    "arc_easy": 2376, "arc_challenge": 1172, "piqa": 1838, "sciq": 1000, "boolq": 3270, "sst2": 872,
    "lambada_openai": 5153, "hellaswag": 10042, "winogrande": 1267, "openbookqa": 500, "ifeval": 541,
    "gsm8k": 1319, "gsm8k_cot": 1319, "minerva_math500": 500,
    "leaderboard_musr_murder_mysteries": 250, "leaderboard_musr_object_placements": 256,
    "leaderboard_musr_team_allocation": 250,
    **{f"arithmetic_{kind}": 2000 for kind in
       ("1dc", "2da", "2dm", "2ds", "3da", "3ds", "4da", "4ds", "5da", "5ds")},
    **{f"bbh_cot_fewshot_{kind}": items for kind, items in _BBH.items()},
    **{f"minerva_math_{kind}": items for kind, items in _MATH.items()},
}  # fmt: skip
"""{task: items}"""
