#!/usr/bin/env bash
# Fetches Flickr8k, Flickr30k or COCO into data/, checks what came, and moves it into place at the end.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: ./get_data.sh NAME...

  f8k    Flickr8k: 8,091 photos, 5 captions each, splits train, dev and test (1.1 GB)
  f30k   Flickr30k: 31,014 photos, 5 captions each, Karpathy's splits (4.4 GB)
  coco   COCO 2017 validation: 5,000 photos, 5 captions each (1.1 GB)

Each goes to data/NAME, and can then be used with `python app.py -t index -d NAME`. A download that was
interrupted goes on where it stopped when the command is run again; data/NAME appears only when complete.

Photos of f8k and f30k come through Kaggle's API where KAGGLE_USERNAME and KAGGLE_KEY are set or
~/.kaggle/kaggle.json exists, else from public mirrors run by third parties. The owners of both data sets
ask you to fill in a form first (https://hockenmaier.cs.illinois.edu/Framing_Image_Description/KCCA.html,
https://shannon.cs.illinois.edu/DenotationGraph/); research use only. COCO comes from its own server.

environment:
  CROSSMODAL_DATA_ROOT   the folder to fill instead of data/ beside this script
  CROSSMODAL_MIRROR      take every file from this base URL instead, under its own file name
  CROSSMODAL_KAGGLE      the base URL of Kaggle's download API
  CROSSMODAL_PARTIAL     set to 1 to accept a mirror that holds only a part of a data set
  KAGGLE_USERNAME, KAGGLE_KEY   a Kaggle account's name and API token
TEXT
}

DATA_ROOT=${CROSSMODAL_DATA_ROOT:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/data}
KAGGLE=${CROSSMODAL_KAGGLE:-https://www.kaggle.com/api/v1/datasets/download}
PYTHON=$(command -v python3.11 || command -v python3 || true)
ATTEMPTS=4

child=""
staging=""
lock=""

say() { printf '%s\n' "$*" >&2; }
fail() {
    say "error: $*"
    exit 1
}

clean_up() {
    if [[ -n $child ]]; then
        kill "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
        child=""
    fi
    if [[ -n $staging ]]; then rm -rf "$staging"; fi
    if [[ -n $lock ]]; then rm -f "$lock"; fi
}

interrupted() {
    say "interrupted: run the same command again to continue where it stopped"
    exit "$1"
}

trap clean_up EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM HUP

# Runs a command so that a signal ends it at once; bash would otherwise wait for it before the trap.
run() {
    local status=0
    "$@" <&0 &
    child=$!
    wait "$child" || status=$?
    child=""
    return "$status"
}

# url_of FILE URL: where FILE comes from, CROSSMODAL_MIRROR considered.
url_of() {
    if [[ -n ${CROSSMODAL_MIRROR:-} ]]; then printf '%s/%s' "${CROSSMODAL_MIRROR%/}" "$1"; else printf '%s' "$2"; fi
}

# kaggle_account: prints curl's configuration line with the account, or nothing where there is none.
kaggle_account() {
    "$PYTHON" - "$HOME/.kaggle/kaggle.json" <<'PY'
import json, os, sys

name, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
if not (name and key) and os.path.exists(sys.argv[1]):
    try:
        with open(sys.argv[1], encoding="utf-8") as file:
            account = json.load(file)
        name, key = account["username"], account["key"]
    except (OSError, ValueError, KeyError, TypeError):
        sys.exit(f"error: {sys.argv[1]} has no username and key: get a new one from your Kaggle account's settings")
if name and key:
    if set('"\\\r\n') & set(name + key):
        sys.exit("error: the Kaggle name or key has a character that cannot be part of one")
    print(f'user = "{name}:{key}"')
PY
}

# download URL FILE [ACCOUNT]: fetches into FILE; what an earlier run left in FILE.partial is continued.
download() {
    local url=$1 file=$2 account=${3:-} attempt status code progress=(--silent --show-error)
    if [[ -f $file ]]; then return; fi
    if [[ -t 2 ]]; then progress=(--progress-bar); fi
    say "fetching $url"
    for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
        status=0
        # The account goes through standard input, because arguments can be seen by every user of the machine.
        run curl "${progress[@]}" --fail --location --proto '=http,https' --connect-timeout 30 \
            --speed-limit 1 --speed-time 60 --continue-at - --output "$file.partial" \
            --write-out '%{http_code}' --config - "$url" <<<"$account" >"$file.status" || status=$?
        code=$(cat "$file.status")
        rm -f "$file.status"
        case $status in
            0)
                refuse_web_page "$file.partial" "$url"
                mv "$file.partial" "$file"
                return
                ;;
            22)
                # 416: the server has nothing behind what is here, so it is complete or of another version.
                if [[ $code == 416 && -s $file.partial ]]; then
                    rm -f "$file.partial"
                    continue
                fi
                if [[ $code == 429 || $code == 5* ]]; then
                    say "the server answered $code"
                else
                    fail "$url answered with status $code$(hint_for "$code")"
                fi
                ;;
            33 | 36) rm -f "$file.partial" ;; # the server cannot continue a download: start again
            23) fail "cannot write $file.partial: is the disk full?" ;;
            6 | 7) fail "cannot reach $url (curl $status): check the network, or set CROSSMODAL_MIRROR" ;;
            *) say "the connection broke (curl $status)" ;;
        esac
        if ((attempt < ATTEMPTS)); then sleep "$attempt"; fi
    done
    fail "$url could not be fetched in $ATTEMPTS attempts; run the same command again to go on"
}

hint_for() {
    case $1 in
        401 | 403) printf ': the account may be wrong, or the terms of the data set not accepted yet' ;;
        404) printf ': the file is not there (any more); set CROSSMODAL_MIRROR to a place that has it' ;;
    esac
}

# refuse_web_page FILE URL: a login or error page that came with status 200 is not data.
refuse_web_page() {
    if head -c 1024 "$1" | LC_ALL=C grep -aqiE '<!doctype html|<html'; then
        rm -f "$1"
        fail "$2 sent a web page instead of data (a login or an error page)"
    fi
}

# verify FILE ALGORITHM DIGEST: compares with the published checksum; a partial mirror has other files.
verify() {
    local digest
    if [[ -n ${CROSSMODAL_PARTIAL:-} ]]; then return; fi
    digest=$(
        "$PYTHON" - "$1" "$2" <<'PY'
import hashlib, sys

digest = hashlib.new(sys.argv[2])
with open(sys.argv[1], "rb") as file:
    for chunk in iter(lambda: file.read(1 << 20), b""):
        digest.update(chunk)
print(digest.hexdigest())
PY
    )
    if [[ $digest != "$3" ]]; then
        rm -f "$1"
        fail "$(basename "$1") has the $2 checksum $digest, and the published one is $3: it was removed"
    fi
}

# unpack ZIP FOLDER PATTERN...: takes the files whose base name fits a pattern into FOLDER, without their folders.
unpack() {
    say "unpacking $(basename "$1")"
    local status=0
    run "$PYTHON" - "$@" <<'PY' || status=$?
import fnmatch, os, shutil, sys, zipfile, zlib

archive, folder, *patterns = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
try:
    with zipfile.ZipFile(archive) as zip_file:
        chosen = {}
        for member in zip_file.infolist():
            name = member.filename.replace("\\", "/").rsplit("/", 1)[-1]
            hidden = name.startswith(".") or member.filename.startswith("__MACOSX")
            if not hidden and any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                chosen.setdefault(name, member)
        needed, free = sum(member.file_size for member in chosen.values()), shutil.disk_usage(folder).free
        if needed > free:
            sys.exit(f"error: unpacking needs {needed:,} bytes in {folder}, and {free:,} are free")
        # Reading a member to its end compares its checksum.
        for name, member in chosen.items():
            with zip_file.open(member) as source, open(os.path.join(folder, name), "wb") as target:
                shutil.copyfileobj(source, target)
except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
    print(f"error: {os.path.basename(archive)} is damaged or no zip file: {error}", file=sys.stderr)
    sys.exit(65)
except OSError as error:
    sys.exit(f"error: unpacking {os.path.basename(archive)} failed: {error}")
if not chosen:
    print(f"error: {os.path.basename(archive)} holds nothing named {' or '.join(patterns)}", file=sys.stderr)
    sys.exit(65)
PY
    if ((status == 65)); then
        rm -f "$1"
        fail "$(basename "$1") was removed; run the same command again to fetch it once more"
    fi
    if ((status != 0)); then exit "$status"; fi
}

# check FOLDER LAYOUT PHOTOS CAPTIONS: counts, and refuses a data set with fewer photos or captions.
check() {
    run "$PYTHON" - "$@" "${CROSSMODAL_PARTIAL:-}" <<'PY' || exit 1
import csv, json, os, sys

folder, layout, least_photos, least_captions, partial = sys.argv[1:]
photos_folder = os.path.join(folder, "val2017" if layout == "coco" else "images")
photos = set(os.listdir(photos_folder))
empty = sum(os.path.getsize(os.path.join(photos_folder, photo)) == 0 for photo in photos)
if layout == "kaggle":
    with open(os.path.join(folder, "captions.txt"), encoding="utf-8", newline="") as file:
        described = [row["image"] for row in csv.DictReader(file)]
elif layout == "karpathy":
    with open(os.path.join(folder, "dataset_flickr30k.json"), encoding="utf-8") as file:
        described = [image["filename"] for image in json.load(file)["images"] for _ in image["sentences"]]
else:
    with open(os.path.join(folder, "captions_val2017.json"), encoding="utf-8") as file:
        content = json.load(file)
    names = {image["id"]: image["file_name"] for image in content["images"]}
    described = [names[annotation["image_id"]] for annotation in content["annotations"]]
matched = sum(name in photos for name in described)
print(f"{len(photos):,} photos, {matched:,} captions of them", file=sys.stderr)
if empty:
    sys.exit(f"error: {empty:,} photos are empty files")
least = (1, 1) if partial else (int(least_photos), int(least_captions))
if len(photos) < least[0] or matched < least[1]:
    sys.exit(
        f"error: at least {least[0]:,} photos and {least[1]:,} captions of them should be there; what was fetched is "
        f"in {os.path.dirname(folder)}, remove that folder to fetch it again"
    )
PY
}

# photos_archive NAME FILE URL KAGGLE_DATA_SET [MD5]: fetches the photos, through Kaggle where an account is there.
photos_archive() {
    local name=$1 file=$2 url=$3 data_set=$4 checksum=${5:-} account=""
    if [[ -z ${CROSSMODAL_MIRROR:-} ]]; then account=$(kaggle_account) || exit 1; fi
    if [[ -n $account ]]; then
        file=kaggle-$name.zip
        download "${KAGGLE%/}/$data_set" "$part/$file" "$account"
    else
        download "$(url_of "$file" "$url")" "$part/$file"
        if [[ -n $checksum ]]; then verify "$part/$file" md5 "$checksum"; fi
    fi
    unpack "$part/$file" "$staging/images" '*.jpg'
}

fetch_f8k() {
    local releases=https://github.com/jbrownlee/Datasets/releases/download/Flickr8k
    download "$(url_of Flickr8k_text.zip $releases/Flickr8k_text.zip)" "$part/Flickr8k_text.zip"
    # The checksums of both archives are those that the torchvision package for R compares with.
    verify "$part/Flickr8k_text.zip" md5 bf6c1abcb8e4a833b7f922104de18627
    unpack "$part/Flickr8k_text.zip" "$staging/text" Flickr8k.token.txt 'Flickr_8k.*Images.txt'
    photos_archive f8k Flickr8k_Dataset.zip $releases/Flickr8k_Dataset.zip adityajn105/flickr8k \
        f18a1e2920de5bd84dae7cf08ec78978
    run "$PYTHON" - "$staging" <<'PY' || exit 1
import csv, os, sys

folder = sys.argv[1]
photos = set(os.listdir(os.path.join(folder, "images")))
text = os.path.join(folder, "text")
absent = 0
try:
    source = open(os.path.join(text, "Flickr8k.token.txt"), encoding="utf-8")
    target = open(os.path.join(folder, "captions.txt"), "w", encoding="utf-8", newline="")
    with source, target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(["image", "caption"])
        for line in source:
            numbered, tab, caption = line.rstrip("\r\n").partition("\t")
            if not tab:
                sys.exit(f"error: Flickr8k.token.txt has a line without a tab: {line[:80]!r}")
            photo = numbered.rpartition("#")[0]
            if photo in photos:
                writer.writerow([photo, caption.strip()])
            else:
                absent += 1
    for split in ("train", "dev", "test"):
        listed = os.path.join(text, f"Flickr_8k.{split}Images.txt")
        if os.path.exists(listed):
            os.replace(listed, os.path.join(folder, f"{split}.txt"))
except OSError as error:
    sys.exit(f"error: the captions cannot be converted: {error}")
if absent:
    print(f"left out {absent:,} captions whose photo is not in the archive", file=sys.stderr)
PY
    rm -rf "$staging/text"
    check "$staging" kaggle 8000 40000
}

fetch_f30k() {
    download "$(url_of caption_datasets.zip \
        https://cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip)" "$part/caption_datasets.zip"
    unpack "$part/caption_datasets.zip" "$staging" dataset_flickr30k.json
    photos_archive f30k flickr30k-images.zip \
        https://huggingface.co/datasets/nlphuji/flickr30k/resolve/main/flickr30k-images.zip \
        hsankesara/flickr-image-dataset
    check "$staging" karpathy 31000 155000
}

fetch_coco() {
    local server=http://images.cocodataset.org
    download "$(url_of annotations_trainval2017.zip $server/annotations/annotations_trainval2017.zip)" \
        "$part/annotations_trainval2017.zip"
    # COCO's server has no https; the checksums of both archives are those that GluonCV compares with.
    verify "$part/annotations_trainval2017.zip" sha1 8551ee4bb5860311e79dace7e79cb91e432e78b3
    unpack "$part/annotations_trainval2017.zip" "$staging" captions_val2017.json
    download "$(url_of val2017.zip $server/zips/val2017.zip)" "$part/val2017.zip"
    verify "$part/val2017.zip" sha1 4950dc9d00dbe1c933ee0170f5797584351d2a41
    unpack "$part/val2017.zip" "$staging/val2017" '*.jpg'
    check "$staging" coco 5000 25000
}

fetch() {
    local name=$1 place=$DATA_ROOT/$1 part=$DATA_ROOT/$1.part other
    if [[ -e $place ]]; then
        say "$name is already in $place; remove that folder to fetch it again"
        return
    fi
    mkdir -p "$part" || fail "cannot write in $DATA_ROOT"
    printf '*\n' >"$part/.gitignore"
    other=$(cat "$part/running" 2>/dev/null || true)
    if [[ -n $other ]] && kill -0 "$other" 2>/dev/null; then
        fail "another run, process $other, is fetching $name"
    fi
    lock=$part/running
    printf '%s\n' $$ >"$lock"
    staging=$part/unpacked
    rm -rf "$staging"
    mkdir "$staging"
    "fetch_$name"
    mv "$staging" "$place"
    staging=""
    rm -rf "$part"
    lock=""
    say "$name is in $place"
}

if (($# == 0)); then
    usage >&2
    exit 2
fi
for argument in "$@"; do
    case $argument in
        -h | --help)
            usage
            exit 0
            ;;
        f8k | f30k | coco) ;;
        *)
            say "error: there is no data set $argument here: use f8k, f30k or coco (see --help)"
            exit 2
            ;;
    esac
done
command -v curl >/dev/null || fail "curl is needed and is not installed"
if [[ -z $PYTHON ]]; then fail "Python is needed and is not installed"; fi
for name in "$@"; do
    fetch "$name"
done
