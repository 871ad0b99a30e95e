#!/usr/bin/env python3
"""Runs the commands of every README's code blocks in a copy of what git has, and lists those that it does not run.

The commands run as they are written, on a CPU. Their `pastur` is a stand-in that passes them on to the program with
further settings, which make models, data and studies small. Commands that need a GPU, a cluster, the network or an hour
are listed with that reason; a command that no rule covers is run.

    tests/readme/run_commands.py --pastur build-cpu/pastur [--only PATTERN] [--list]
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Why a command is not run: the first pattern that its line matches.
SKIPPED = [
    (r"^(sbatch|qsub)\b|--slurm\b|mpirun\.sh hosts", "a cluster: tests/tools/*slurm_test.cpp has stand-ins for its commands"),
    (r"^(curl|docker|apptainer)\b|c4|fineweb|\baws s3\b|smollm2", "the network"),
    (r"^tools/peers/|PASTUR=.*tools/peers/|check_transformers|check_choices|check_tokenizers",
     "PyTorch or packages of Hugging Face"),
    (r"--train\.precision=fp8|sanitize|build-cuda/|--gpus 0,1|7b-mla-decoupled|^nsys\b", "a GPU"),
    (r"recipe\.toml --train\.init_from=converted", "the reader's recipe, with the sizes that `convert` prints"),
    (r"^RANK=0 WORLD_SIZE=2", "a GPU per rank"),
    (r"^tools/test\.sh|^tools/dev\.sh (cpu|fuzz|attack)|kill_test\.py|^build-cpu/pastur_tests",
     "an hour: these are the project's own tests"),
    (r"^cmake |^tools/dev\.sh (deb|bundle)", "a build of minutes"),
    (r"--data\.dir=\.\.\.", "the reader's data, written as `...`"),
]
# Lines of blocks that show something else than commands.
NO_COMMAND = re.compile(r"^(#|\||kernels <- )")

STAND_IN = r"""#!/usr/bin/env bash
# Passes a command of a README on to the program, made small.
program=%(program)s
words=() small=() before=''
for word in "$@"; do
    case $word in
        train:32000) word=train:2048 ;;
        200) [[ $before != --draws ]] || word=2 ;;
        384) [[ $before != --kv-rank ]] || word=48 ;;
        512) [[ $before != --stride ]] || word=32 ;;
        1024) [[ $before != --context ]] || word=48 ;;
    esac
    before=$word
    words+=("$word")
done
# Sizes that recipes give by number follow from those of nano.
model=(--model.preset=nano --model.layers=1 --attention.kv_rank=0 --attention.k_rank=0 --attention.v_rank=0
    --attention.nope_dim=0 --attention.rope_dim=0 --attention.v_dim=0 --attention.q_rank=0)
steps=(--train.steps=3 --train.warmup_steps=0 --train.global_batch=4 --train.micro_batch=0 --train.val_tokens=1024
    --data.seq_len=64 --diagnostics.every=2 --diagnostics.early=0 "${model[@]}")
case $1 in
    train) small=("${steps[@]}") ;;
    study)
        [[ $* == *"--stage results"* ]] || small=("${steps[@]}" --diagnostics.nulls=product '--diagnostics.positions=[]')
        ;;
    bench)
        small=("${model[@]}" --data.seq_len=64 --train.global_batch=4)
        [[ $* == *--steps* || $* == *--generate* ]] || small+=(--steps 1 --warmup 1)
        ;;
esac
# A run that continues keeps its settings but the number of steps, and imported weights keep their sizes.
if [[ $1 == train && -d $2 ]]; then small=(--train.steps=4); fi
if [[ $1 == train && -f $2 ]] && grep -q init_from "$2"; then small=("${steps[@]::8}"); fi
exec "$program" "${words[@]}" "${small[@]}"
"""


def commands_of(text):
    """The commands of a README's indented and fenced blocks, lines that end in a backslash joined."""
    found, fenced, code, inside, before, last = [], False, False, False, "", ""
    for line in text.split("\n"):
        if line.startswith("```"):
            code = not code
            fenced = code and line in ("```", "```sh", "```bash")
            continue
        if code and not fenced:
            continue
        # An indented block begins after an empty line; elsewhere the indent is that of a list.
        indented = re.match(r"^    +(\S.*)$" if inside or before else r"^    (\S.*)$", line)
        inside = bool(indented) and (inside or not last)
        last = line
        if not inside and not (fenced and line):
            continue
        word = indented.group(1) if indented else line
        if before:
            word = before + " " + word
        if word.endswith("\\"):
            before = word[:-1].strip()
            continue
        before = ""
        found.append(re.sub(r"\s+# .*$", "", word).strip())
    return found


def readmes():
    files = subprocess.run(["git", "ls-files", "*README.md"], cwd=TOP, capture_output=True, text=True, check=True)
    names = files.stdout.split()
    # The top first: later ones use the runs that its commands leave.
    return sorted(names, key=lambda name: (name != "README.md", name != "tools/README.md", name))


def copy_tree(target):
    os.makedirs(target)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, check=True).stdout
    archive = subprocess.Popen(["tar", "-C", TOP, "--null", "-T", "-", "-cf", "-"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)
    unpack = subprocess.Popen(["tar", "-C", target, "-xf", "-"], stdin=archive.stdout)
    archive.stdin.write(names)
    archive.stdin.close()
    if unpack.wait() != 0 or archive.wait() != 0:
        sys.exit("cannot copy what git has")


def prepare(folder, program):
    """What the READMEs take as given: a program in build/ and on PATH, a text, a corpus and a model folder."""
    for place in ("build", "bin"):
        os.makedirs(os.path.join(folder, place))
        stand_in = os.path.join(folder, place, "pastur")
        with open(stand_in, "w") as file:
            file.write(STAND_IN % {"program": program})
        os.chmod(stand_in, 0o755)
    script = """set -e
        P=%s
        $P data synth --docs 400 --seed 1 --out my.txt
        $P data synth --docs 3000 --seed 2 --out stories.txt
        mkdir -p corpus path/to
        python3 -c "
import json
for document in open('stories.txt').read().split('<|doc|>'):
    print(json.dumps({'text': document.strip()}))" > corpus/a.jsonl
        zstd -q --rm corpus/a.jsonl || { gzip corpus/a.jsonl && mv corpus/a.jsonl.gz corpus/a.jsonl.zst; }
        $P data prepare --input my.txt --tokenizer bytes --out small
        $P train tools/recipes/nano-mha.toml --data.dir=small --data.seq_len=64 --train.steps=1 --train.warmup_steps=0 \\
            --train.global_batch=2 --train.val_tokens=256 --diagnostics.every=0 --run small-run
        $P export --checkpoint small-run --out path/to/llama
        cp tests/hf/choices/hellaswag.jsonl . && echo "Once upon a time" > prompts.txt
        $P data prepare --input my.txt --tokenizer train:2048 --out data-tokens
        """ % program
    subprocess.run(["bash", "-c", script], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pastur", required=True)
    parser.add_argument("--only", default="", help="run only commands that match this pattern")
    parser.add_argument("--list", action="store_true", help="say what would be run, and exit")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.pastur)
    top = tempfile.mkdtemp(prefix="pastur-readme-")
    folder = os.path.join(top, "pastur")
    environment = dict(os.environ, PATH=os.path.join(folder, "bin") + ":" + os.environ["PATH"], PASTUR="build/pastur",
                       OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1",
                       OMPI_MCA_rmaps_base_oversubscribe="1")
    failed = ran = 0
    if subprocess.run(["python3", "-c", "import matplotlib"], capture_output=True).returncode != 0:
        SKIPPED.append((r"plot_spectra\.py", "matplotlib, which is missing here"))
    try:
        if not arguments.list:
            copy_tree(folder)
            prepare(folder, program)
        for readme in readmes():
            for command in commands_of(open(os.path.join(TOP, readme)).read()):
                if NO_COMMAND.match(command):
                    continue
                reason = next((why for pattern, why in SKIPPED if re.search(pattern, command)), None)
                if reason or not re.search(arguments.only, command):
                    print("skip    %s: %s%s" % (readme, command, "   (needs %s)" % reason if reason else ""))
                    continue
                if arguments.list:
                    print("run     %s: %s" % (readme, command))
                    continue
                begin = time.time()
                result = subprocess.run(["bash", "-c", "set -o pipefail; " + command], cwd=folder, env=environment,
                                        stdin=subprocess.DEVNULL, capture_output=True, text=True)
                ran += 1
                good = result.returncode == 0
                failed += not good
                print("%s  %s: %s   (%.0f s)" % ("ok    " if good else "FAILED", readme, command, time.time() - begin),
                      flush=True)
                if not good:
                    print("        exit %d: %s" % (result.returncode, result.stderr.strip()[-600:]))
    finally:
        shutil.rmtree(top)
    if not arguments.list:
        print("%d commands ran, %d failed" % (ran, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
