"""Bad inputs 2, 9, 10, 12, 16, 17, 19 and 20: what is wrong stands in topic, properties or packet."""

from __future__ import annotations

from functools import partial

from protocol.reasons import Reason
from tests.acceptance.bad_bodies import TEXTS
from tests.acceptance.bad_inputs import (
    ACK,
    COMMAND,
    HEARTBEAT,
    PRESENCE,
    Fate,
    Letter,
    Row,
    Said,
    beat,
    dead,
    stored,
    told,
)
from tests.acceptance.raw_line import packet, publish, release, text

OTHER = "352099001761481"
"""An IMEI that is nobody's in these tests."""

UNKNOWN_ACK = (
    b'{"v":1,"command_id":"0198f3a2-7c1e-7b4d-9a55-3f0c2d1e4b6a",'
    b'"epoch":1,"mode":"enabled","result":"applied"}'
)
TOPICS = [
    *(
        told(2, f"NUL in the topic, {where}", Fate.CUT, topic=topic)
        for where, topic in {"at its end": HEARTBEAT + "\0", "at its start": "\0" + HEARTBEAT}.items()
    ),
    *(
        dead(9, name, beat(), Reason.BAD_IMEI, topic=f"scu/v1/81/{imei}/heartbeat", foreign=True)
        for name, imei in {
            "14 digits": OTHER[:14],
            "16 digits": OTHER + "0",
            "no digit": "",
            "a bad check digit": "352099001761482",
            "all zeros": "0" * 15,
            "spaces": "35 209900 176148 1",
            "hyphens": "35-209900-176148-1",
            "Arabic digits": "٣٥٢٠٩٩٠٠١٧٦١٤٨١",
            "full-width digits": "\N{FULLWIDTH DIGIT THREE}52099001761481",
            "65,000 characters": "x" * 65_000,
        }.items()
    ),
    told(9, "a slash in the IMEI", Fate.UNHEARD, topic=f"scu/v1/81/3520990/{OTHER}/heartbeat", foreign=True),
    *(
        told(9, f"{sign} for an IMEI", Fate.CUT, topic=f"scu/v1/81/{sign}/heartbeat", foreign=True)
        for sign in "+#"
    ),
    told(
        9, "an IMEI with a space at the unit's own login", Fate.NOT_ADMITTED, topic="scu/v1/{pp}/{imei} /ack"
    ),
    stored(10, "another IMEI in the body", beat(f'"imei":"{OTHER}"'), fields={"imei": OTHER}),
    *(
        told(
            10,
            f"another IMEI in the topic of its {channel}",
            Fate.NOT_ADMITTED,
            topic=f"scu/v1/81/{OTHER}/{channel}",
        )
        for channel in ("heartbeat", "ack", "presence", "command")
    ),
    *(
        dead(
            10,
            f"{name} for the partition",
            beat(),
            Reason.WRONG_PARTITION,
            topic=f"scu/v1/{pp}/{{imei}}/heartbeat",
        )
        for name, pp in {
            "nothing": "",
            "one digit": "7",
            "three digits": "0{pp}",
            "letters": "ab",
            "the partition of nobody": "-{pp}",
        }.items()
    ),
    *(
        dead(
            12,
            f"{name} for an IMEI",
            beat(),
            Reason.BAD_IMEI,
            topic=f"scu/v1/81/{word}/heartbeat",
            foreign=True,
        )
        for name, word in TEXTS.items()
        if name not in {"HTML", "path", "line breaks", "terminal", "formula"}
    ),
    *(
        told(12, f"{name} for an IMEI", Fate.CUT, topic=f"scu/v1/81/{TEXTS[name]}/heartbeat", foreign=True)
        for name in ("line breaks", "terminal")
    ),
    *(
        told(16, name, Fate.UNHEARD, topic=topic, foreign=True)
        for name, topic in {
            "a leading slash": "/" + HEARTBEAT,
            "a trailing slash": HEARTBEAT + "/",
            "empty levels": "scu//v1//{pp}/{imei}/heartbeat",
            "nothing but slashes": "////",
            "100 levels": "/".join(["scu"] * 100),
            "another version": "scu/v2/{pp}/{imei}/heartbeat",
            "capitals": "SCU/V1/{pp}/{imei}/HEARTBEAT",
            "a byte order mark": "\ufeff" + HEARTBEAT,
            "65,535 bytes": "x" * 65_535,
        }.items()
    ),
    *(
        told(16, name, Fate.CUT, topic=topic, foreign=True)
        for name, topic in {
            "no topic": "",
            "U+FFFF": "scu/v1/{pp}/{imei}\uffff/heartbeat",
            "300 levels": "/".join(["scu"] * 300),
        }.items()
    ),
    *(
        told(16, name, Fate.NOT_ADMITTED, topic=topic, foreign=True)
        for name, topic in {
            "the broker's own": "$SYS/broker/clients/total",
            "a shared subscription": "$share/group/" + HEARTBEAT,
        }.items()
    ),
    told(
        16,
        "a topic that is no text",
        Fate.CUT,
        packet=lambda _, body: publish(b"scu/v1/81/\xff/heartbeat", body),
    ),
    told(16, "a deeper channel at the unit's own login", Fate.NOT_ADMITTED, topic=HEARTBEAT + "/more"),
]


def with_more(name: str, more: bytes, fate: Fate = Fate.STORED) -> Row:
    """Say a heartbeat with these properties."""
    return told(17, name, fate, packet=partial(publish, more=more))


def user_property(name: str, value: str) -> bytes:
    """Write one user property."""
    return b"\x26" + text(name) + text(value)


PROPERTIES = [
    with_more("10,000 user properties", user_property("a", "b") * 10_000),
    with_more("HTML in a user property", user_property(TEXTS["HTML"], TEXTS["SQL"])),
    with_more("an expiry of 0 seconds", b"\x02\0\0\0\0"),
    with_more("an expiry without end", b"\x02\xff\xff\xff\xff"),
    with_more("a content type", b"\x03" + text("image/png")),
    with_more("a response topic with wildcards", b"\x08" + text("scu/#")),
    with_more("correlation data that is no text", b"\x09" + text(b"\xff\0")),
    with_more("a payload format that does not exist", b"\x01\x02"),
    with_more("a subscription identifier", b"\x0b\x01"),
    with_more("NUL in a user property", user_property("a\0", "b"), Fate.CUT),
    with_more("a property that does not exist", b"\x7f\0", Fate.CUT),
    with_more("the payload format twice", b"\x01\x01\x01\x01", Fate.CUT),
    with_more("topic alias 0", b"\x23\0\0", Fate.CUT),
    with_more("topic alias 65,535", b"\x23\xff\xff", Fate.CUT),
    told(
        17,
        "an alias that was never given",
        Fate.CUT,
        packet=lambda _, body: publish("", body, more=b"\x23\0\1"),
    ),
    Row(
        number=17,
        name="a topic by its alias",
        said=(
            Said(body=beat(), packet=partial(publish, more=b"\x23\0\1"), beats=((1, 2),)),
            Said(
                body=beat(seq=4), packet=lambda _, body: publish("", body, more=b"\x23\0\1"), beats=((1, 4),)
            ),
        ),
        newest=(1, 4),
    ),
    Row(
        number=17,
        name="a payload that is not the text it is said to be",
        said=(
            Said(
                body=b"\xff\xfe",
                packet=partial(publish, more=b"\x01\x01"),
                fate=Fate.DEAD_LETTER,
                letters=(Letter(Reason.UNSUPPORTED_ENCODING),),
            ),
        ),
    ),
    told(
        17,
        "properties longer than their packet",
        Fate.CUT,
        packet=lambda topic, body: packet(0x32, text(topic), b"\0\1\x7f", body[:20]),
    ),
]

PACKETS = [
    told(19, "QoS 2, never finished", Fate.UNFINISHED, packet=partial(publish, qos=2)),
    told(
        19, "QoS 2, finished", Fate.STORED, packet=lambda topic, body: publish(topic, body, qos=2) + release()
    ),
    told(
        19,
        "QoS 2, said twice and finished three times",
        Fate.STORED,
        packet=lambda topic, body: (
            publish(topic, body, qos=2) + publish(topic, body, qos=2, again=True) + release() * 3
        ),
    ),
    Row(
        number=19,
        name="QoS 2, its packet id re-used for something else before it was finished",
        said=(
            Said(body=beat(seq=7), fate=Fate.UNFINISHED, packet=partial(publish, qos=2)),
            Said(
                body=beat(),
                packet=lambda topic, body: publish(topic, body, qos=2) + release(),
                beats=((1, 2),),
            ),
        ),
    ),
    Row(
        number=19,
        name="QoS 2, its packet id re-used for QoS 1 and finished then",
        said=(
            Said(body=beat(seq=7), fate=Fate.UNFINISHED, packet=partial(publish, qos=2)),
            Said(body=beat(), packet=lambda topic, body: publish(topic, body) + release(), beats=((1, 2),)),
        ),
    ),
    Row(
        number=19,
        name="QoS 1, a packet id used three times",
        said=(
            Said(body=beat(), beats=((1, 2),)),
            Said(body=beat(seq=4), beats=((1, 4),)),
            Said(body=beat(), fate=Fate.DUPLICATE, packet=partial(publish, again=True)),
        ),
        newest=(1, 4),
    ),
    told(19, "packet id 0", Fate.CUT, packet=partial(publish, packet_id=0)),
    told(19, "QoS 3", Fate.CUT, packet=partial(publish, qos=3)),
    told(19, "QoS 0", Fate.STORED, packet=partial(publish, qos=0)),
    told(19, "the end of what was never begun", Fate.STORED, packet=lambda t, b: release(99) + publish(t, b)),
]

RETAINED = [
    told(20, "a retained heartbeat", Fate.STORED, packet=partial(publish, retain=True)),
    Row(
        number=20,
        name="a retained heartbeat that cannot be read",
        said=(
            Said(
                body=b"{",
                packet=partial(publish, retain=True),
                fate=Fate.DEAD_LETTER,
                letters=(Letter(Reason.NOT_JSON),),
            ),
        ),
    ),
    Row(
        number=20,
        name="a retained ack",
        said=(
            Said(
                body=UNKNOWN_ACK,
                topic=ACK,
                packet=partial(publish, retain=True),
                fate=Fate.DEAD_LETTER,
                letters=(Letter(Reason.UNKNOWN_COMMAND, "/command_id"),),
            ),
        ),
    ),
    told(
        20,
        "a retained command from a unit",
        Fate.NOT_ADMITTED,
        topic=COMMAND,
        body=b"{}",
        packet=partial(publish, retain=True),
    ),
    Row(
        number=20,
        name="a retained presence, said twice",
        said=(
            Said(
                body=b'{"v":1,"boot":1,"state":"online"}',
                topic=PRESENCE,
                packet=partial(publish, retain=True),
            ),
            Said(
                body=b'{"v":1,"boot":1,"state":"online"}',
                topic=PRESENCE,
                packet=partial(publish, retain=True),
                fate=Fate.DUPLICATE,
            ),
        ),
    ),
]

ODD_PACKETS = [*TOPICS, *PROPERTIES, *PACKETS, *RETAINED]
