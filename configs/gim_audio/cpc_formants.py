_base_ = './gim_k6_formants.py'
model = dict(backbone=dict(boundaries=[]))
