"""Studies of training dynamics on checkpoints of one's own, each written as a page with its pictures.

    python -m features.studies selection ZOO --along RUN... --task TASK... --store STORE -o docs/studies/selection.md
    python -m features.studies relatedness RUN... --task TASK... --store STORE -o docs/studies/relatedness.md

    python -m features.studies prompts TABLE... -o docs/studies/prompts.md
    python -m features.studies prompts-along TABLE... -o docs/studies/prompts_along.md
    python -m features.studies tasks TABLE -o docs/studies/selection_tasks.md

What is not in the store is measured first. `selection` says how well a few selected examples rank held-out checkpoints, each
selector against random; `relatedness` which tasks move together over the checkpoints of each run, with the document's figures;
`prompts` whether zero-shot scores under each template go with fine-tuned outcomes, in comparison tables of `foretune table`, and
`prompts-along` the same over the course of pre-training, in tables of whole runs of `python -m training.along`;
`tasks` how well a few tasks of a published benchmark rank published models.
"""
