_base_ = './gim_k6_librispeech.py'
# The recurrent net belongs to the fifth module.
model = dict(
    backbone=dict(boundaries=['layers.1', 'layers.2', 'layers.3', 'layers.4'])
)
