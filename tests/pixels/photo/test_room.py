"""Memory that photographs share."""

import threading

from batchseg.pixels.photo.room import Claim, Room


def test_a_claim_takes_what_decoding_needs_and_gives_back_what_is_over():
    room = Room(100)
    one, other = Claim(room, 1000), Claim(room, 1000)
    assert one(70, 500)
    assert not other(40, 40)
    assert not other.is_large
    assert one.shrink(30) == 30
    assert other(40, 40)
    assert not Claim(room, 1000)(40, 40)
    room.give_back(30)
    assert Claim(room, 1000)(40, 40)


def test_what_takes_more_than_its_share_is_large_whatever_room_there_is():
    for room in (Room(10**6), None):
        claim = Claim(room, 1000)
        assert not claim(10, 1001)
        assert claim.is_large
        assert claim.shrink(10) == 0
        assert Claim(room, 1000)(10, 1000)


def test_what_the_others_wait_for_needs_no_room():
    claim = Claim(None, 1000)
    assert claim(1000, 1000)
    assert claim.shrink(500) == 0


def test_threads_never_take_more_than_there_is():
    room, taken = Room(50), []

    def take():
        taken.extend(1 for _ in range(100) if room.take(1))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 50
