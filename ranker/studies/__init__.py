"""The reference studies: published tables put through the product, beside what their papers report.

    python -m ranker.studies zeng      [--table zeng2025.csv]  [-o docs/studies/zeng.md]
    python -m ranker.studies ibm       --table models_fully_finetuned_wide.csv
    python -m ranker.studies nas       --table flexibert500_tidy.csv
    python -m ranker.studies rectified --table rectified_scaling_tidy.csv
    python -m ranker.studies transfer  --table FOLDER           (which of them answers for another)
    python -m ranker.studies small     --table FOLDER           (8 to 20 checkpoints)
    python -m ranker.studies summary   [--table docs/studies]   (aims and results, from the pages written so far)

Each writes a Markdown page and, beside it, the same figures as JSON. Checkpoints, or their uploaders, are held out, never pairs.
"""
