"""Selecting the examples worth scoring: Algorithm 1 of Vivek et al. (benchmark hill climbing).

subset.py      Subset: examples, weights and probabilities, and its file
selectors.py   random, stratified, anchor points, high loss, kriging, behind one interface
estimators.py  plain, weighted, LURE and PURE estimates of the mean loss, with standard errors
"""
