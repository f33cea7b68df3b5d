"""TRL's GRPOTrainer with a Llama of the size of ours, at random weights: sampling and one update a step."""

import argparse
import json
import os
import random
import tempfile
import time
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.peers import token_recipe as recipe

WARM_UP = 2

# Three matrices make Llama's perceptron, two make ours: the same number of parameters.
INTERMEDIATE = 2 * recipe.EXPANSION * recipe.WIDTH // 3


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Look at the clock."""
        del args, kwargs
        self.ends.append(time.perf_counter())


def tokenizer() -> PreTrainedTokenizerFast:
    """Words of one letter each, beside padding and an end."""
    letters = [chr(ord("a") + i) for i in range(recipe.VOCABULARY - 2)]
    vocabulary = {word: i for i, word in enumerate(["<pad>", "<eos>", *letters])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def reward(completions: list[str], **kwargs: Any) -> list[float]:
    """The share of one letter among those that were written."""
    del kwargs
    return [text.count("a") / recipe.NEW for text in completions]


def run(threads: int, steps: int, pieces: int) -> dict[str, float]:
    """Steps after a warm-up, each of them one batch cut into so many pieces."""
    torch.set_num_threads(threads)
    random.seed(0)
    words = tokenizer()
    letters = [word for word in words.get_vocab() if len(word) == 1]
    number = recipe.PROMPTS * (steps + WARM_UP)
    prompts = [" ".join(random.choices(letters, k=recipe.PROMPT)) for _ in range(number)]
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.VOCABULARY,
            hidden_size=recipe.WIDTH,
            intermediate_size=INTERMEDIATE,
            num_hidden_layers=recipe.LAYERS,
            num_attention_heads=recipe.HEADS,
            max_position_embeddings=recipe.PROMPT + recipe.NEW,
            tie_word_embeddings=True,
            pad_token_id=0,
            eos_token_id=1,
            bos_token_id=None,
        )
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=reward,
            processing_class=words,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            callbacks=[clock],
            args=GRPOConfig(
                output_dir=folder,
                use_cpu=True,
                bf16=False,
                per_device_train_batch_size=recipe.PROMPTS * recipe.GROUP // pieces,
                gradient_accumulation_steps=pieces,
                num_generations=recipe.GROUP,
                max_completion_length=recipe.NEW,
                generation_kwargs={"min_new_tokens": recipe.NEW},
                num_iterations=1,
                beta=0.0,
                max_steps=steps + WARM_UP,
                gradient_checkpointing=False,
                logging_steps=1_000_000,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
        )
        trainer.train()
    seconds = clock.ends[-1] - clock.ends[WARM_UP - 1]
    tokens = recipe.PROMPTS * recipe.GROUP * recipe.NEW * steps
    return {"step": tokens / seconds}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pieces", type=int, default=1)
    print(json.dumps(run(**vars(parser.parse_args()))), flush=True)
