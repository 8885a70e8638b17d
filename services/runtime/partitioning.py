"""Which partition a key belongs to: Kafka's murmur2, so that every Kafka client agrees with us."""

from functools import lru_cache

CACHED_KEYS = 65_536
"""Keys whose partition is remembered: hashing one costs as much as deciding half a flow."""

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


@lru_cache(maxsize=CACHED_KEYS)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` among `partitions`, as org.apache.kafka DefaultPartitioner places it."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def checked_partition(partition: int, partitions: int, topic: str) -> int:
    """`partition`, if `topic` has it. Raises ValueError, a bug of whoever named it."""
    if not 0 <= partition < partitions:
        raise ValueError(f"{topic} has {partitions} partitions and no {partition}; name one of them, or leave it out")
    return partition


def _murmur2(data: bytes) -> int:
    h = (_SEED ^ len(data)) & _MASK
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = (int.from_bytes(data[at : at + 4], "little") * _M) & _MASK
        k = ((k ^ (k >> 24)) * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    tail = data[whole:]
    if tail:
        h = ((h ^ int.from_bytes(tail, "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)
