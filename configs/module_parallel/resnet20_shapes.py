_base_ = '../infopro/resnet20_shapes.py'
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.ModuleParallel')
