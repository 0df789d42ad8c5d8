"""Reads a slab by docs/slab-format.md, and by nothing else: python3 reader.py FILE"""
import struct, sys, zlib

def text(raw):
    return raw.split(b"\0")[0].decode("ascii")

def signed(word):
    return word - (1 << 64) if word >> 63 else word

with open(sys.argv[1], "rb") as file:
    head = file.read(192 + 256 * 64)
    magic, order, major, minor, state, checksum, header, fields = struct.unpack_from("=8sIHHIIII", head)
    assert magic == b"\x89RDSLAB\n" and order == 0x01020304 and major == 1, "not for this reader"
    assert 1 <= fields <= 256 and header == 192 + 64 * fields and len(head) >= header, "damaged"
    assert state in (1, 2), "not ready"
    assert zlib.crc32(head[:16] + bytes(8) + head[24:header]) == checksum, "damaged"
    length, owners_at, slots_at, stride, count = struct.unpack_from("=QQQII", head, 32)
    print("slab", text(head[112:144]), length)

    def read(at, size):
        file.seek(at)
        return file.read(size)

    before, slots, after = read(owners_at, 32 * count), read(slots_at, stride * count), read(owners_at, 32 * count)

for index in range(fields):
    name, unit, kind, _, offset, words, base = struct.unpack_from("=32s16sHHIII", head, 192 + 64 * index)
    total, own = [0] * words, {}
    for slot in range(count):
        control, start, flags = struct.unpack_from("=QQQ", before, 32 * slot)
        owned = before[32 * slot:][:32] == after[32 * slot:][:32] and control & 0xFFFFFFFF and not control >> 32 & 1
        value = struct.unpack_from(f"={words}Q", slots, stride * slot + offset)
        old = struct.unpack_from(f"={words}Q", slots, stride * slot + base) if kind != 2 else (0,)
        mine = [(v - b) % 2**64 for v, b in zip(value, old)] if kind in (1, 4) else list(value)
        if owned:
            own[slot] = [control & 0xFFFFFFFF, start, flags, [signed(mine[0])] if kind == 2 else mine]
        if kind == 3:
            total[0] = max(total[0], value[0], old[0])
        elif kind != 2 or owned:
            total = [(t + v) % 2**64 for t, v in zip(total, value)]
    kinds = {1: "counter", 2: "gauge", 3: "max", 4: "histogram"}
    print(kinds[kind], text(name), text(unit) or "-", [signed(total[0])] if kind == 2 else total, own)
