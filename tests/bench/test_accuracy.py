import json

import pytest

from bench import accuracy

ROW = {
    "pcap": "some.pcap", "src_ip": "192.168.1.5", "src_port": 50_000, "dst_ip": "198.51.100.9", "dst_port": 443,
    "ip_protocol": 6, "first_seen_ms": 1_000, "last_seen_ms": 2_000, "bytes_up": 100, "bytes_down": 900,
    "packets_up": 3, "packets_down": 4, "requested_server_name": "", "server_name_kind": "", "label_category": "Web",
}  # fmt: skip
MAPPING = {
    "TLS.Netflix": {"category": "streaming", "app": "netflix", "specific": True},
    "TLS.WhatsApp": {"category": "voip_im", "app": "whatsapp", "specific": True},
    "STUN.WhatsAppCall": {"category": "voip_im", "app": "whatsapp", "service": "call", "specific": True},
    "HTTP": {"category": "other", "app": "unknown", "specific": False, "by_ndpi_category": {"Video": "streaming"}},
}


@pytest.fixture
def folder(tmp_path):
    def write(*rows):
        lines = "\n".join(json.dumps(ROW | row) for row in rows)
        (tmp_path / "x-flows-y.jsonl").write_text(lines + "\n", encoding="utf-8")
        (tmp_path / "x-mapping-y.json").write_text(json.dumps(MAPPING), encoding="utf-8")
        return tmp_path

    return write


def named(name, label, **fields):
    return {"requested_server_name": name, "server_name_kind": "tls_sni", "label_app": label} | fields


def measure(folder, tmp_path):
    code = accuracy.main([str(folder), "--output", str(tmp_path / "out.json")])
    return code, json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))


def test_right_answers_hold_every_floor(folder, tmp_path, capsys):
    stun = {"label_app": "STUN.WhatsAppCall", "ip_protocol": 17, "dst_port": 3478}
    code, report = measure(
        folder(named("www.netflix.com", "TLS.Netflix"), named("web.whatsapp.com", "TLS.WhatsApp"), stun), tmp_path
    )
    assert code == 0
    assert report["headline"]["accuracy"] == report["headline"]["call_recall"] == 1.0
    assert report["confusion"]["voip_im"] == {"voip_im": 2, "social": 0, "streaming": 0, "other": 0}
    assert "floor 0.95 held" in capsys.readouterr().out


def test_wrong_answer_is_counted_listed_and_misses_the_floor(folder, tmp_path):
    code, report = measure(folder(named("www.whatsapp.com", "TLS.Netflix")), tmp_path)
    assert code == 1
    assert "accuracy" in report["missed"]
    assert report["headline"]["accuracy"] == 0.0
    assert report["confusion"]["streaming"]["voip_im"] == 1
    assert report["worst_names"][0]["name"] == "www.whatsapp.com"


def test_carrier_label_counts_by_its_category(folder, tmp_path):
    video = named("unlisted.example", "HTTP", label_category="Video")
    assert measure(folder(video), tmp_path)[1]["confusion"]["streaming"]["other"] == 1


def test_labels_never_reach_the_classifier(folder, tmp_path):
    lied = named("unlisted.example", "TLS.WhatsApp")
    assert measure(folder(lied), tmp_path)[1]["headline"]["accuracy"] == 0.0


def test_without_the_data_it_says_that_nothing_was_measured(tmp_path, capsys):
    assert accuracy.main([str(tmp_path / "nowhere")]) == 0
    assert "SKIPPED" in capsys.readouterr().out


def test_shipped_catalogue_holds_every_floor(tmp_path):
    if not accuracy.DEFAULT_FOLDER.is_dir():
        pytest.skip(f"ACCURACY NOT MEASURED: no labelled flows in {accuracy.DEFAULT_FOLDER}")
    code, report = measure(accuracy.DEFAULT_FOLDER, tmp_path)
    assert report["missed"] == []
    assert code == 0
