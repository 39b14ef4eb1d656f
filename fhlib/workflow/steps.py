"""The steps of the study: each rule of the run map and its notebook."""

TITLES = {
    "start_here": "00_start_here",
    "cohort": "01_cohort",
    "prepare": "02_prepare",
    "train": "03_train",
    "predict": "04_predict",
    "accuracy": "05_accuracy",
    "agreement": "06_agreement",
    "reproducibility": "07_reproducibility",
    "attention": "08_attention",
    "claims": "09_claims",
    "segment": "10_segment",
    "ablation": "13_ablation",
    "few_cases": "14_few_cases",
}
