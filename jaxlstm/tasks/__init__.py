"""Data to learn from: texts, and tasks with long time lags.

reber               every next symbol of the embedded Reber grammar; T stretches its strings
noise-free          p steps, the first symbol to be told again at the last
adding              the sum of two marked numbers of T to 1.1 T; the second is in the first half
temporal-order      which two symbols came, in their order, in T to 1.1 T steps
temporal-order-3    the same of three
copy                ten symbols, T steps of silence, and the ten again
"""
