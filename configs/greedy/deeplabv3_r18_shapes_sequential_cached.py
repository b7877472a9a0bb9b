_base_ = './deeplabv3_r18_shapes_sequential.py'
model = dict(backbone=dict(backbone=dict(out_indices=(3,))))
model['decode_head'] = dict(in_index=0)
train_cfg = dict(cache=dict(as_drawn=True))
