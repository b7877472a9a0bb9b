_base_ = [
    '../_base_/models/cpc-audio.py',
    '../_base_/datasets/librispeech.py',
    '../_base_/schedules/cpc_1000e.py',
    '../_base_/default_runtime_cls.py',
]
