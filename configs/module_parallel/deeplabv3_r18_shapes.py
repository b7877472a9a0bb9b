_base_ = '../infopro/deeplabv3_r18_shapes.py'
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.ModuleParallel')
