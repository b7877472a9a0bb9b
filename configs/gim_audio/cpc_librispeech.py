_base_ = './gim_k6_librispeech.py'
# One module: contrastive predictive coding, end to end.
model = dict(backbone=dict(boundaries=[]))
