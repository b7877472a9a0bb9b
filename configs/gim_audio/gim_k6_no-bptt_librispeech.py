_base_ = './gim_k6_librispeech.py'
model = dict(backbone=dict(backbone=dict(bptt=False)))
