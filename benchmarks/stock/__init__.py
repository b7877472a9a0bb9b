"""Configs that mmseg and mmpretrain ship, put to the test one by one."""
