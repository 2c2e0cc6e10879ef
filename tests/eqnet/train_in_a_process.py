"""Trains a small supernet in a process that a test can kill, or under torchrun: FOLDER [--without-norm]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from accelerate import Accelerator

import eqnet
from tests.eqnet.test_training import supernet, task

if __name__ == "__main__":
    torch.set_num_threads(1)
    of = task(norm="--without-norm" not in sys.argv)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    steps = 3 if "--without-norm" in sys.argv else 12
    options = eqnet.Options(epochs=steps, batch_size=8, checkpoint_every=0)
    for _ in eqnet.train(supernet(of), of, options, folder, Accelerator(cpu=True)):
        pass
