"""RecBole's side of ``train.py``: one model on one file, in an interpreter that has recbole 1.2.1.

    python benchmarks/recbole_side.py MODEL FILE.inter --epochs N --max-len L [--width D] [--anomaly] [--evaluate]

Its own code, defaults and loops: a row per prefix, cross-entropy over the catalogue at the last position, Adam. Prints JSON.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("file", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-len", type=int, default=50)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--anomaly", action="store_true", help="as shipped: importing the models leaves anomaly detection on")
    parser.add_argument("--evaluate", action="store_true", help="validate after every epoch, and test the best one at the end")
    options = parser.parse_args()
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    options.file = options.file.resolve()
    os.chdir(tempfile.mkdtemp())  # RecBole leaves logs where it stands
    name = options.file.name.removesuffix(".inter")
    settings: dict[str, Any] = {
        "data_path": str(options.file.parent.parent if options.file.parent.name == name else options.file.parent),
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": options.max_len,
        "hidden_size": options.width,
        "embedding_size": options.width,
        "inner_size": 4 * options.width,
        "train_neg_sample_args": None,
        "loss_type": "CE",
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "metrics": ["Hit", "NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "train_batch_size": options.batch,
        "eval_batch_size": 4096,
        "epochs": options.epochs,
        "use_gpu": False,
        "show_progress": False,
        "checkpoint_dir": tempfile.mkdtemp(),
        "seed": 1,
        "reproducibility": False,
    }
    sys.argv = sys.argv[:1]  # RecBole reads the command line for settings of its own
    config = Config(model=options.model, dataset=name, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = get_model(config["model"])(config, train.dataset).to(config["device"])
    torch.autograd.set_detect_anomaly(options.anomaly)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    epochs, best, tested = [], None, None
    for epoch in range(options.epochs):
        began = time.perf_counter()
        loss = trainer._train_epoch(train, epoch)
        seconds = time.perf_counter() - began
        entry: dict[str, Any] = {"epoch": epoch + 1, "seconds": round(seconds, 2), "loss": float(loss)}
        if options.evaluate:
            entry["validation"] = {key: float(value) for key, value in trainer.evaluate(valid, load_best_model=False).items()}
            if best is None or entry["validation"]["ndcg@10"] > best["validation"]["ndcg@10"]:
                best = entry
                tested = {key: float(value) for key, value in trainer.evaluate(test, load_best_model=False).items()}
            elif epoch + 1 - best["epoch"] >= 10:
                epochs.append(entry)
                break
        epochs.append(entry)
        print(entry, file=sys.stderr, flush=True)
    result = {
        "model": options.model,
        "anomaly": options.anomaly,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_rows": len(train.dataset),
        "epochs": epochs,
        "test_of_best": tested,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
