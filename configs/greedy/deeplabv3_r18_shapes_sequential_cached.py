_base_ = './deeplabv3_r18_shapes_sequential.py'
train_cfg = dict(cache=dict(as_drawn=True))
