"""Makes tests/fuzz/corpus (needs Pillow): the smallest inputs that each reader takes whole. Run once; the files are committed."""
import gzip, struct
from pathlib import Path
from PIL import Image

ROOT = Path(__file__).parent / "corpus"

def write(name, content):
    path = ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

def picture(name, size, mode, shade, **options):
    path = ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size)
    image.putdata([(x * 9 % 256, y * 11 % 256, shade) for y in range(size[1]) for x in range(size[0])])
    image.convert(mode).save(path, **options)

images = struct.pack(">IIII", 0x803, 3, 4, 5) + bytes(i % 256 for i in range(60))
write("idx/images.gz", gzip.compress(images, mtime=0))
write("idx/labels.gz", gzip.compress(struct.pack(">II", 0x801, 4) + bytes([0, 3, 9, 1]), mtime=0))

cub = "cub/CUB_200_2011/"
names = ["001.Ant_bird", "002.Bee_bird"]
count = 4
lines = lambda row: "".join(row(i) + "\n" for i in range(count))
write(cub + "classes.txt", "1 001.Ant_bird\n2 002.Bee_bird\n")
write(cub + "images.txt", lines(lambda i: f"{i + 1} {names[i // 2]}/{i}.jpg"))
write(cub + "image_class_labels.txt", lines(lambda i: f"{i + 1} {i // 2 + 1}"))
write(cub + "train_test_split.txt", lines(lambda i: f"{i + 1} {i % 2}"))
write(cub + "bounding_boxes.txt", lines(lambda i: f"{i + 1} 2.5 1.0 10.0 8.0"))
write(cub + "parts/parts.txt", "1 left wing\n2 beak\n")
write(cub + "parts/part_locs.txt", lines(lambda i: f"{i + 1} 1 5.0 4.0 1\n{i + 1} 2 0.0 0.0 0"))
write(cub + "attributes/class_attribute_labels_continuous.txt", "80.5 3.0 50.0\n" * 200)
write(cub + "attributes/image_attribute_labels.txt",
      lines(lambda i: "\n".join(f"{i + 1} {a} {(i + a) % 2} {1 + i % 4} 3.1" for a in (1, 2, 3))))
write("cub/attributes.txt", "1 has_bill_shape::all-purpose\n2 has_size::small_(5_-_9_in)\n3 has_x::half\n")
for i in range(count):
    picture(f"{cub}images/{names[i // 2]}/{i}.jpg", (16, 12), "RGB", 60 * i, quality=60)

picture("pictures/cat/a.png", (9, 7), "RGB", 0)
picture("pictures/cat/b.png", (8, 8), "P", 90)
picture("pictures/cat/c.jpg", (11, 8), "RGB", 10, quality=50)
picture("pictures/dog/a.jpg", (8, 9), "L", 200, quality=50, progressive=True)
picture("pictures/dog/b.png", (7, 7), "L", 0)
picture("pictures/one/a.png", (7, 7), "RGBA", 7)
