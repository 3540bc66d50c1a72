"""Bad images, tables and series for bad_input.py: damaged files, wrong use of them, and keys that such runs have no use
for."""
import gzip
import os
import struct
import zlib
from pathlib import Path

from bad_input_cases import case, edit, gone

# ---- series ----

def series_text(rows=60, step=1, names="t,y"):
    return names + "\n" + "".join(f"{i * step},{(7 * i) % 12}\n" for i in range(rows))


def series(name, content, *pieces, more="", time="t", target="y"):
    case(f"series: {name}", f"train --data x.csv --time {time} --target {target} --set out=series {more}", *pieces,
         files={"x.csv": content})


series("a horizon longer than the series", series_text(), "data.horizon: 100 is too long", more="--horizon 100")
series("a horizon longer than the part held out", series_text(), "data.horizon: 12 is longer than the held-out part",
       "6 of 60", more="--horizon 12")
series("a season longer than the series", series_text(), "data.season: 500 is too long", more="--set data.season=500")
series("windows longer than the series", series_text(), "model.context", "fit 0 times", more="--set model.context=80")
series("too short", series_text(10), "must 8 times")
series("one row", "t,y\n1,2\n", "1 row")
series("no rows", "t,y\n", "x.csv")
series("a value beyond any measurement", series_text() + "60,-1e200\n", "'y'", "'-1e200' is no number")
series("an input twice", "t,y,z\n" + "".join(f"{i},{i % 7},{i % 5}\n" for i in range(60)),
       "data.inputs: 'z' is there twice", more="--set data.inputs=[z,z]")
series("an input of texts", "t,y,z\n" + "".join(f"{i},{i % 7},a\n" for i in range(60)), "'z' holds texts",
       more="--set data.inputs=z")
series("a day that there is not", "t,y\n2026-02-28,1\n2026-02-30,2\n2026-03-01,3\n", "'t' holds texts")
series("a split of tables", series_text(), "data.split: is for tables", more="--set data.split=grouped")
series("text among times", series_text() + "tomorrow,3\n", "x.csv", "'t'", "tomorrow")
series("times that are texts", "t,y\n" + "".join(f"{c},1\n" for c in "abcdefgh"), "data.time", "'t' holds texts")
series("a row without a time", series_text() + ",3\n", "row 61 has no 't'")
series("two equal times", series_text() + "59,3\n", "rows 60 and 61 have the same t, 59")
series("two equal dates", "t,y\n2026-01-01,1\n2026-01-02,2\n2026-01-01,3\n", "rows 1 and 3", "2026-01-01")
series("a target of texts", "t,y\n1,red\n2,green\n3,red\n", "data.target", "'y' holds texts")
series("a target that is empty", "t,y\n1,\n2,\n3,\n", "data.target", "'y' holds nothing")
series("a target that never changes", "t,y\n" + "".join(f"{i},5\n" for i in range(60)), "'y' is 5 in all")
series("the time as target", series_text(), "data.target: 't' is the time, too", target="t")
series("no such target", series_text(), "data.target", "no column 'z'", target="z")
series("no such time", series_text(), "data.time", "no column 'T'", "'t'", time="T")
series("no such input", series_text(), "data.inputs", "no column 'x'", more="--set data.inputs=x")
series("the target as input", series_text(), "data.inputs: 'y' is the target", more="--set data.inputs=y")
series("the time as input", series_text(), "data.inputs: 't' is the time", more="--set data.inputs=t")
series("a horizon of nothing", series_text(), "data.horizon", more="--horizon 0")
series("a horizon of words", series_text(), "data.horizon", more="--horizon soon")
series("a model of another kind", series_text(), "model.kind", "lstm, gru, tcn or linear", more="--model resnet18")
series("no such model", series_text(), "model.kind: 'arima'", more="--model arima")
case("series: time without a target", "train --data good.txt --time t", "--time: goes with --target")
case("series: horizon without time", "train --data good.txt --horizon 3", "--horizon: goes with --time")
case("series: no file", "train --data nowhere.csv --time t --target y", "nowhere.csv")
case("series: a config without a target", "train x.yaml", "data.target: is not set",
     files={"x.csv": series_text(), "x.yaml": "data: {path: x.csv, time: t}\nout: series\n"})
case("series: a forecaster without a series", "train x.yaml", "model.kind: lstm forecasts series",
     files={"x.yaml": "model: {kind: lstm}\ndata: {path: good.txt}\ntrain: {steps: 1}\n"})


# ---- images ----

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "images"


def golden(name):
    return (GOLDEN / name).read_bytes()


def png(width, height, depth=8, colours=2, data=b""):
    """A PNG file that promises so many pixels, whatever it holds."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b""))


def images(name, files, *pieces, change=None, arguments="train --data pets --set out=new"):
    case(f"images: {name}", arguments, *pieces, files=files, change=change)


def in_pets(name, content, *pieces):
    images(name, {"pets/dog/bad.png": content}, "pets/dog/bad.png: ", *pieces)


in_pets("an empty file", b"", "is empty")
in_pets("a text named .png", "hello", "is no image")
in_pets("a JPEG that is cut off", golden("colour.jpg")[:1200], "damaged JPEG", "cut off")
in_pets("a JPEG of a header only", golden("colour.jpg")[:300], "damaged JPEG", "cut off")
in_pets("a JPEG with a hole", golden("colour.jpg")[:900] + b"\xff\xd9" + golden("colour.jpg")[902:], "damaged JPEG")
in_pets("a JPEG without tables", golden("colour.jpg")[:4] + golden("colour.jpg")[160:], "damaged JPEG")
in_pets("a JPEG in CMYK", golden("cmyk.jpg"), "CMYK", "convert it to RGB")
in_pets("a PNG of 16 bits", golden("deep.png"), "16 bits a channel", "convert it")
in_pets("a PNG that is cut off", golden("colour.png")[:2000], "damaged PNG", "cut off")
in_pets("a PNG with a wrong checksum", golden("colour.png")[:60] + b"?" + golden("colour.png")[61:], "damaged PNG")
in_pets("a PNG without pixels", png(4, 4), "damaged PNG")
in_pets("a PNG of no size", png(0, 4), "damaged PNG")
in_pets("a PNG that fills any memory", png(60000, 60000), "60000x60000 pixels", "make it smaller")
in_pets("a PNG of a width that none has", png(1 << 30, 1), "damaged PNG")
in_pets("a GIF", b"GIF89a" + bytes(20), "is a GIF image", "convert it")
in_pets("a TIFF", b"II*\0" + bytes(20), "is a TIFF image")
in_pets("a WebP", b"RIFF\x10\0\0\0WEBPVP8 ", "is a WebP image")
images("a link to itself", {}, "pets/dog/loop.png", change=lambda f: (f / "pets/dog/loop.png").symlink_to("loop.png"))
images("a circle of folders", {}, "circle of links", change=lambda f: (f / "pets/dog/up").symlink_to(".."))
images("a link to nothing", {}, "pets/dog/lost.png", change=lambda f: (f / "pets/dog/lost.png").symlink_to("nowhere"))
images("a pipe", {}, "pets/dog/pipe.png", "no ordinary file", change=lambda f: os.mkfifo(f / "pets/dog/pipe.png"))
images("an empty class", {"pets/emu": None}, "pets/emu: holds no images", "remove it")
images("one class only", {"lone/cat/a.png": golden("grey.png")}, "lone: has one class only",
       arguments="train --data lone --set out=new")
images("no classes", {"flat/a.png": golden("grey.png")}, "flat: has no sub-folders",
       arguments="train --data flat --set out=new")
images("of another format", {"gifs/cat/1.gif": b"GIF89a", "gifs/dog/1.WebP": b"RIFF"}, "gifs/cat: holds no images",
       ".jpg, .jpeg or .png", arguments="train --data gifs --model lenet --set out=new")
images("a class for tests alone", {"two/train/a/1.png": golden("grey.png"), "two/train/b/1.png": golden("grey.png"),
                                   "two/val/c/1.png": golden("grey.png")}, "two/val/c: is a class",
       arguments="train --data two --set out=new")
images("of two channels", {}, "channels 1 or 3",
       arguments="train --data pets --set data.channels=2 --set out=new")
images("a language model", {}, "--model", arguments="train --data pets --model gpt2 --set out=new")
images("damaged ones only, to be skipped", {"torn/a/1.png": "x", "torn/b/1.png": "y"}, "torn/a/1.png", "no other image",
       arguments="train --data torn --set data.on_bad=skip --set out=new")
images("predicting for a text", {}, "good.txt: is no image", arguments="predict seen good.txt")
images("predicting for an empty folder", {"void": None}, "void: holds no images", arguments="predict seen void")
images("predicting for a damaged image", {"bad.png": golden("colour.png")[:2000]}, "bad.png: is a damaged PNG",
       arguments="predict seen bad.png")
images("testing on other classes", {"other/elk/1.png": golden("grey.png"), "other/fox/1.png": golden("grey.png")},
       "other/elk: is a class", arguments="eval seen --data other")
images("writing texts with a classifier", {}, "writes no text", arguments="sample seen")
for key in ["data.height=20", "data.width=20", "data.channels=1"]:
    images(f"going on with {key}", {}, f"--set {key}: a run goes on with inputs of the kind", "leave it out",
           arguments=f"train --resume seen --set train.steps=3 --set {key}")
images("going on with other images", {}, "pets", "trained on",
       change=lambda f: (f / "pets/cat/0.png").write_bytes(golden("alpha.png")),
       arguments="train --resume seen --set train.steps=3 --set data.path=pets")


# ---- images in IDX files ----

def idx(*shape, data=None, code=8):
    count = 1
    for size in shape:
        count *= size
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + \
        (bytes(i * 37 % 256 for i in range(count)) if data is None else data)


def labels(count, classes=4):
    return idx(count, data=bytes(i % classes for i in range(count)))


IDX = {"m/train-images-idx3-ubyte": idx(40, 8, 8), "m/train-labels-idx1-ubyte": labels(40),
       "m/t10k-images-idx3-ubyte": idx(12, 8, 8), "m/t10k-labels-idx1-ubyte": labels(12)}


def idx_files(name, *pieces, data="m", **changed):
    """`changed`: train_images, train_labels, t10k_images, t10k_labels, and with _gz at its end the gzipped one."""
    files = dict(IDX)
    for key, content in changed.items():
        part, kind, *zipped = key.split("_")
        path = f"m/{part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
        files.pop(path)
        if content is not None:
            files[path + ".gz" * len(zipped)] = content
    case(f"idx: {name}", f"train --data {data} --set out=new", *pieces, files=files)


idx_files("fewer labels than images", "m/train-labels-idx1-ubyte: has 39 labels for 40 images", train_labels=labels(39))
idx_files("one label only", "m: all training images have the label 7", "nothing to learn",
          train_labels=idx(40, data=bytes([7] * 40)), t10k_labels=idx(12, data=bytes([7] * 12)))
idx_files("images without pixels", "train-images-idx3-ubyte: holds nothing (dimension 1 is 0)",
          train_images=idx(40, 0, 0))
idx_files("no image", "train-images-idx3-ubyte: holds nothing", train_images=idx(0, 8, 8), train_labels=labels(0))
idx_files("2^31 images promised", "is cut off (its header promises", train_images=idx(40, 8, 8)[:4] +
          struct.pack(">3I", 1 << 31, 8, 8))
idx_files("sizes that overflow", "is cut off (its header promises",
          train_images=idx(40, 8, 8)[:4] + struct.pack(">3I", *[(1 << 32) - 1] * 3))
idx_files("floats", "holds elements of type 0xd, not unsigned bytes", train_images=idx(40, 8, 8, code=13))
idx_files("more than promised", "holds more bytes than its header says", train_images=idx(40, 8, 8) + b"x")
idx_files("a gzipped file that is cut", "train-images-idx3-ubyte.gz: is cut off",
          train_images_gz=gzip.compress(idx(40, 8, 8))[:60])
idx_files("a gzipped file that is damaged", "train-images-idx3-ubyte.gz: is damaged",
          train_images_gz=b"\x1f\x8b\x08" + b"\xff" * 200)
idx_files("an empty gzipped file", "train-images-idx3-ubyte.gz: is cut off", train_images_gz=b"")
idx_files("no labels", "m: has no file train-labels-idx", train_labels=None)
idx_files("tests only", "m: has no file train-images-idx", train_images=None, train_labels=None)
idx_files("tests of another size", "test images are 9x9x1, training images 8x8x1", t10k_images=idx(12, 9, 9))
idx_files("a test label beyond those of training", "a test label is 9, and there are 4 classes",
          t10k_labels=idx(12, data=bytes([9] * 12)))
idx_files("labels in two dimensions", "has 2 dimensions, not 1", train_labels=idx(40, 1))
idx_files("images in two dimensions", "has 2 dimensions, not 3", train_images=idx(40, 64))
idx_files("a file instead of its folder", "m/train-images-idx3-ubyte: is no text", "of images the folder they lie in",
          data="m/train-images-idx3-ubyte")
case("idx: labels that the model does not know", "eval seen --data m", "m: has a label 3, the model knows 2 classes",
     files=IDX)


# ---- tables ----

ROWS = "".join(f"{i},{'ab'[i % 2]},{i * i}\n" for i in range(12))


def table(name, content, *pieces, target="y", more="", code=2, files=None):
    case(f"table: {name}", f"train --data t.csv --target {target} {more} --set out=new", *pieces,
         files={"t.csv": content, **(files or {})}, code=code)


table("empty", "", "t.csv: is empty")
table("a header only", "x,c,y\n", "t.csv: has no rows")
table("a row with fewer cells", "x,c,y\n1,a,2\n1,a\n", "t.csv: line 3: has 2 cells", "names 3 columns")
table("a row with more cells", "x,c,y\n1,a,2\n1,a,b,3\n", "t.csv: line 3: has 4 cells", "must be in quotes")
table("a name twice", "x,y,x\n1,2,3\n", "two columns have the name 'x'")
table("a quote that stays open", 'x,y\n1,2\n"3,4\n5,6\n', "line 3, column 'x'", "never closed")
table("text behind a quote", 'x,y\n"1"2,3\n', "line 2, column 'x'", "after a closing quote")
table("a NUL byte", b"x,y\n1,2\n\0,4\n", "line 3, column 'x'", "NUL byte")
table("Latin-1", b"x,y\nM\xfcnchen,1\nK\xf6ln,2\n", "line 2, column 'x'", "is not UTF-8")
table("UTF-16", "x,y\n1,2\n".encode("utf-16"), "is in UTF-16 (save it as UTF-8)")
table("an Excel file", b"PK\x03\x04" + bytes(50), "ZIP or Excel file")
table("a gzipped file", b"\x1f\x8b\x08" + bytes(50), "is gzipped")
table("no names", "1,2\n3,4\n", "holds numbers only", "must name the columns")
table("text in a column of numbers", "x,c,y\n" + ROWS + "12,a,oops\n", "line 14, column 'y': 'oops' is no number")
table("a number with thousands separators", "x,c,y\n" + ROWS + '12,a,"1,234"\n', "column 'y': '1,234' is no number")
table("a number beyond any measurement", "x,c,y\n" + ROWS + "1e308,a,1\n", "column 'x': '1e308' is no number")
table("an infinite number", "x,c,y\n" + ROWS + "inf,a,1\n", "column 'x': 'inf' is no number")
table("a date among numbers", "x,c,y\n" + ROWS + "2026-11-26,a,7\n", "column 'x': '2026-11-26' is no number")
table("dates in both orders", "x,y\n13/1/2026,1\n1/13/2026,2\n", "column 'x'", "begin with the day in line 2")
table("a wrong target", "price,area\n1,2\n2,3\n", "data.target", "no column 'prise'", "'price'", target="prise")
table("a target without values", "x,y\n1,\n2,NA\n", "data.target: column 'y'", "is empty")
table("a target of dates", "x,y\n1,2026-01-01\n2,2026-01-02\n", "data.target: column 'y'", "holds times")
table("a target with one class", "x,y\n1,a\n2,a\n3,a\n", "only one value, 'a'", "nothing to learn")
table("a target that never changes", "x,y\n1,0.5\n2,0.5\n", "is 0.5 in every row")
table("more classes than rows can tell", "x,y\n1,a\n2,b\n3,c\n", "3 different values in 3 rows", "too many for classes")
table("one row", "x,y\n1,0.5\n", "1 row with a target")
table("linear for texts", "x,c,y\n" + ROWS, "linear predicts numbers", "'c'", target="c", more="--model linear")
table("a model of images", "x,c,y\n" + ROWS, "model.kind: lenet is no model of tables", more="--model lenet")
table("no column but the target", "y\n1.5\n2.5\n3.5\n", "no column is left to learn from")
table("a feature that is not there", "x,c,y\n" + ROWS, "data.features", "no column 'z'", more="--set data.features=[z]")
table("the target as a feature", "x,c,y\n" + ROWS, "data.features: 'y' is the target", more="--set data.features=[y]")
table("l2 for a network", "x,c,y\n" + ROWS, "train.l2", "train.weight_decay", more="--model mlp --set train.l2=1")
table("exact for a network", "x,c,y\n" + ROWS, "train.optimizer: exact is for linear",
      more="--model mlp --set train.optimizer=exact")
table("no such group", "x,c,y\n" + ROWS, "data.group", "no column 'z'", more="--set data.group=z")
table("the target as group", "x,c,y\n" + ROWS, "data.group: 'y' is the target", more="--set data.group=y")
table("one group", "x,c,y\n" + ROWS.replace("b", "a"), "data.group: column 'c' has only one value",
      more="--set data.group=c")
table("a row without a group", "x,c,y\n" + ROWS + "12,,1\n", "data.group: row 13 has no 'c'",
      more="--set data.group=c")
table("groups without a column", "x,c,y\n" + ROWS, "data.group: is not set", more="--set data.split=grouped")
table("a split by time without a column", "x,c,y\n" + ROWS, "data.time: is not set", more="--set data.split=time")
table("a split by time by texts", "x,c,y\n" + ROWS, "data.time: column 'c' holds texts", more="--set data.time=c")
table("stratified numbers", "x,c,y\n" + ROWS, "data.split: stratified is for classes",
      more="--set data.split=stratified")
table("another case", "Area,Price\n1,2\n2,3\n", "no column 'price'", "is 'Price'", target="price")
table("smoothed numbers", "x,c,y\n" + ROWS, "train.label_smoothing: is for classes, and 'y' is a number",
      more="--set train.label_smoothing=0.1 --model mlp")

# ---- predicting and scoring with tables and series ----

def predicting(name, run, content, *pieces, call="predict {} n.csv", change=None):
    """With models of `base.csv` (numbers) and `power.csv` (a series) as the fixtures have them."""
    case(f"predict: {name}", call.format(run), *pieces, files={"n.csv": content}, change=change)


SCORE = "eval {} --data n.csv"
predicting("no such column", "tab", "x\n1\n", "the model's columns: n.csv has no column 'c'")
predicting("text where numbers were", "tab", "x,c\nhello,a\n", "line 2, column 'x': 'hello' is no number")
predicting("dates where numbers were", "tab", "x,c\n2026-01-01,a\n", "'2026-01-01' is no number, which this")
predicting("no rows", "tab", "x,c\n", "n.csv: has no rows")
predicting("an empty file", "tab", "", "n.csv: is empty")
predicting("a PNG for a table", "tab", golden("grey.png"), "n.csv: line 1: is not UTF-8")
predicting("a folder for a table", "tab", "x", "pets: is a directory", call="predict {} pets")
predicting("a table for a model of images", "seen", "x,c\n1,a\n", "n.csv: is no image")
predicting("a target of texts", "tab", "x,c,y\n1,a,hello\n", "column 'y': 'hello' is no number", call=SCORE)
predicting("a class that is not known", "cls", "x,c,y\n1,a,1\n2,z,4\n", "'z' is a class that the model was not trained",
           call=SCORE)
predicting("no target", "tab", "x,c\n1,a\n", "the target: n.csv has no column 'y'", call=SCORE)
predicting("no value of the target", "tab", "x,c,y\n1,a,\n", "column 'y': no row has a target", call=SCORE)
predicting("too few steps", "ser", "t,y\n1,2\n2,3\n", "n.csv: has 2 steps, and a forecast needs the last 32")
predicting("too few steps to score", "ser", "t,y\n1,2\n2,3\n", "n.csv: has 2 steps", call=SCORE)
predicting("other steps", "ser", series_text(step=2), "goes on in steps of 2, the model was trained on steps of 1")
predicting("days for a series of numbers", "ser", "t,y\n" + "".join(f"2026-01-{i:02},{i}\n" for i in range(1, 29)),
           "goes on in steps of 1 day")
predicting("a series without values", "ser", "t,y\n" + "".join(f"{i},\n" for i in range(60)), "'y' holds nothing")
for file, damage, piece in [("model.safetensors", gone, "No such file"), ("table.json", gone, "No such file"),
                            ("table.json", lambda b: b[:50], "json"), ("table.json", lambda b: b"{}", "is missing")]:
    predicting(f"{file}, {piece}", "tab", "x,c\n1,a\n", f"step-000001/{file}", piece,
               change=edit(f"tab/checkpoints/step-000001/{file}", damage))

# ---- keys that such a run has no use for ----

for given, key, what in [
        ("--data t.csv --target y", "train.mixup=0.4", "is for images, and this run trains a model on a table"),
        ("--data t.csv --target y", "data.horizon=3", "is for series"),
        ("--data t.csv --target y --model linear", "model.dropout=0.1", "is for networks, and this run trains linear"),
        ("--data t.csv --target y --model mlp", "model.heads=2", "is for transformers"),
        ("--data t.csv --target y --model mlp", "train.eval_windows=5", "is for texts, images and series"),
        ("--data s.csv --time t --target y", "model.tied=false", "is for language models, and this run trains lstm"),
        ("--data s.csv --time t --target y", "data.group=t", "is for tables"),
        ("--data s.csv --time t --target y --model linear", "model.layers=3", "is for transformers, mlp"),
        ("--data pets", "data.tokenizer=byte", "is for language models, and this run trains resnet18 on images"),
        ("--data pets --model lenet", "model.layers=7", "is for transformers, mlp, lstm, gru and tcn"),
        ("--data pets --model vit", "train.l2=1", "is for linear and logistic models of tables"),
        ("--data pets --model logistic", "model.dropout=0.5", "is for networks"),
        ("--data good.txt", "data.hflip=true", "is for images, and this run trains a language model"),
        ("--data good.txt", "data.on_bad=skip", "is for folders of images"),
        ("--data good.txt", "model.patch=4", "is for vit")]:
    case(f"idle key: {given}, {key}", f"train {given} --set {key} --set out=new", key.split("=")[0] + ": " + what[:30],
         what, "(leave it out)", files={"t.csv": "x,c,y\n" + ROWS, "s.csv": series_text()})

# ---- what is no harm in one place is one in another ----

PETS = "train --data pets --model mlp --set train.steps=1 --set out=new"
TABLE = "train --data t.csv --target y --set out=new"
for name, call, piece, files in [
        ("images of more pixels than any", PETS + " --set data.height=60000 --set data.width=60000",
         "images of 60000x60000x3: sides must be at least 1, pixels at most", {}),
        ("images smaller than a kernel", "train --data pets --model lenet --set data.height=1 --set data.width=1 "
         "--set train.steps=1 --set out=new", "the kernel of [32,3,3,3] does not fit", {}),
        ("a patch that does not divide", PETS.replace("mlp", "vit") + " --set model.patch=7", "model.patch: 7", {}),
        ("an SVG", PETS, "cat/9.png: is no image", {"pets/cat/9.png": "<svg/>"}),
        ("a HEIC", PETS, "is a HEIC or AVIF image", {"pets/cat/9.jpg": b"\0\0\0\x18ftypheic" + bytes(60)}),
        ("a device for a table", "train --data /dev/zero --target y --set out=new", "/dev/zero: is a device", {}),
        ("more columns than any", TABLE, "names more than 65536 columns", {"t.csv": "c," * 70000 + "y\n"}),
        ("a header in the middle", TABLE, "line 14, column 'x': 'x' is no number",
         {"t.csv": 2 * ("x,c,y\n" + ROWS)}),
        ("a sum at the end", TABLE, "'Total' is no number", {"t.csv": "x,c,y\n" + ROWS + "Total,,506\n"}),
        ("a comment before the names", TABLE, "line 2: has 3 cells", {"t.csv": "# by hand\nx,c,y\n" + ROWS}),
        ("percentages to predict", TABLE, "'100%' is a number with something beside it",
         {"t.csv": "x,y\n" + "".join(f"{i},{i}%\n" for i in range(100, 160))}),
        ("thousands in a series", "train --data t.csv --time x --target y --set out=new",
         "'1,100' is a number with something beside it",
         {"t.csv": "x,y\n" + "".join(f'{i},"1,{i}"\n' for i in range(100, 160))}),
        ("a class of its own for each row", TABLE, "too many for classes",
         {"t.csv": "x,y\n" + "".join(f"{i},name {i}\n" for i in range(200))}),
        ("a picture for a config", "train pets/cat/0.png", "pets/cat/0.png:1:1: not YAML", {}),
        ("aliases of aliases", "train x.yaml", "x.yaml:2:9: an alias", {"x.yaml": "a: &a [x]\nb: &b [*a,*a]\n"}),
        ("a zero byte in a path", "train x.yaml", "x.yaml:1:15: a text with a zero byte",
         {"x.yaml": 'data: {path: "good.txt\\0x"}\ntrain: {steps: 1}\nout: new\n'})]:
    case(f"hostile: {name}", call, piece, files=files)

case("table: a folder", "train --data . --target y --set out=new", ".", "is a directory")
case("table: a file that is not there", "train --data none.csv --target y --set out=new", "none.csv")
for given in ["train --data t.csv --set out=new", "check --data t.csv"]:
    case(f"table: no target, {given}", given, "--data: t.csv is a table with the columns 'x', 'c', 'y'",
         "--target COLUMN", files={"t.csv": "x,c,y\n" + ROWS})
case("table: no target in a config", "train good.yaml --set data.path=t.tsv", "data.target: is not set",
     "t.tsv is a table", "data.kind: text", files={"t.tsv": "x\tc\n1\t2\n"})
case("table: a target without data", "train good.yaml --target y", "--target: goes with --data")
