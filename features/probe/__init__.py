"""A short fine-tuning run as a feature: where a checkpoint stands after a stated share of the full fine-tuning's cost.

The checkpoint's copy sees a few hundred training examples once, in growing subsets, and is measured on the examples of
`features` after each:
losses at D = 0, 1/8, 1/4, 1/2 and all of the probe's examples. From them come the loss and accuracy at the end, the gain,
the slope per
doubling, and the loss that the data law expects at the full number of examples. Nothing of `test` is ever read, and the
loaded checkpoint
stays as it was.

Cost is counted in examples passed forward; a training step counts three (forward, and backward twice that). Full
fine-tuning costs
3 x epochs x training examples; the probe spends at most `share` of it, half on training, half on measuring.

    budget.py       what it may spend
    loss.py         the loss that is trained and measured
    run.py          the run: full, last-layer or lora
    extractor.py    what becomes a feature
"""
