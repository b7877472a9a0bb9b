# Greedy InfoMax's on LibriSpeech: at a constant rate.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=2e-4))
train_cfg = dict(by_epoch=True, max_epochs=1000, val_interval=50)
val_cfg = dict()
test_cfg = dict()
