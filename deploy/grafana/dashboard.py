#!/usr/bin/env python3
"""Prints dashboard.json: `deploy/grafana/dashboard.py >deploy/grafana/dashboard.json`. What is in it is the table below."""

import json

WIDTH = 24
HEIGHT = 8
CHOSEN = 'instance=~"$instance"'


def rate(metric, by="", **labels):
    """How fast a counter of all workers grows."""
    chosen = ",".join([CHOSEN] + [f'{name}="{value}"' for name, value in labels.items()])
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate(tidecast_{metric}_total{{{chosen}}}[$__rate_interval]))"


def now(metric, by=""):
    """The sum of a gauge over all workers."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (tidecast_{metric}{{{CHOSEN}}})"


def quantiles(metric):
    """Three percentiles of a histogram."""
    grown = f"sum by (le) (rate(tidecast_{metric}_seconds_bucket{{{CHOSEN}}}[$__rate_interval]))"
    return [(f"p{name}", f"histogram_quantile({of}, {grown})") for name, of in [("50", 0.5), ("99", 0.99), ("99.9", 0.999)]]


# Rows: a title, and panels. A panel: a title, what it means, the unit, and queries by what is drawn for each.
ROWS = [
    ("Traffic", [
        ("Connections", "Open connections, those among them that are event streams, and subscriptions.", "short",
         [("connections", now("connections")), ("event streams", now("event_streams")), ("subscriptions", now("subscriptions"))]),
        ("Messages", "Published by clients, and delivered: once for each subscriber.", "ops",
         [("published", rate("messages_published")), ("delivered", rate("messages_delivered")),
          ("from other workers", rate("messages_forwarded"))]),
        ("Bytes", "On the wire, without the headers of TCP and TLS.", "Bps",
         [("received", rate("received_bytes")), ("sent", rate("sent_bytes"))]),
        ("Coming and going", "Connections accepted, WebSockets opened, sessions of all kinds ended.", "ops",
         [("accepted", rate("connections_accepted")), ("opened", rate("websockets_opened")),
          ("ended", rate("sessions_closed"))]),
        ("HTTP requests", "By what they were for.", "ops", [("{{kind}}", rate("requests", by="kind"))]),
        ("Messages in a send", "Deliveries for each piece handed to the kernel: more is cheaper.", "short",
         [("messages", f'{rate("messages_delivered")} / {rate("sends")}')]),
        ("Compressed to", "Of what was compressed.", "percentunit",
         [("size", f'{rate("compression_output_bytes")} / {rate("compression_input_bytes")}')]),
    ]),
    ("Latency inside the broker", [
        ("Delivery", "From when a message was received until it was handed to the kernel, for each worker with subscribers.", "s",
         quantiles("delivery")),
        ("Turns of the loop", "What comes meanwhile waits for so long.", "s", quantiles("turn")),
        ("Flushes", "Handing to the kernel what is to be sent.", "s", quantiles("flush")),
    ]),
    ("Workers", [
        ("Load", "The part of the time in which a worker's loop was not asleep.", "percentunit",
         [("worker {{worker}}", rate("busy_seconds", by="worker"))]),
        ("Connections of each", "The kernel spreads them.", "short",
         [("worker {{worker}}", now("connections", by="worker"))]),
        ("Mailboxes", "Messages of other workers that wait for one.", "short",
         [("worker {{worker}}", now("mailbox_messages", by="worker"))]),
        ("Publishers that waited", "Because a mailbox was full: its worker is behind.", "ops",
         [("worker {{worker}}", rate("publishers_paused", by="worker"))]),
        ("Turns", "Of the workers' loops.", "ops", [("worker {{worker}}", rate("turns", by="worker"))]),
        ("Processor", "Cores that the process uses.", "short",
         [("cores", f"sum (rate(process_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval]))")]),
    ]),
    ("Memory", [
        ("Budget", "What is held for clients, and what may be (the setting memory).", "bytes",
         [("held", now("memory_held_bytes")), ("limit", now("memory_limit_bytes")),
          ("resident", f"sum (process_resident_memory_bytes{{{CHOSEN}}})")]),
        ("What waits", "To be sent, to be completed by clients, and for other workers.", "bytes",
         [("to send", now("queued_bytes")), ("incomplete", now("incomplete_bytes")), ("mailboxes", now("mailbox_bytes"))]),
        ("Descriptors", "With io_uring, connections are not among them.", "short",
         [("open", f"sum (process_open_fds{{{CHOSEN}}})"), ("limit", f"sum (process_max_fds{{{CHOSEN}}})")]),
    ]),
    ("Refused and ended", [
        ("Connections refused", "By limits.", "ops", [("{{reason}}", rate("connections_refused", by="reason"))]),
        ("Requests that led to nothing", "By cause.", "ops", [("{{cause}}", rate("handshakes_failed", by="cause"))]),
        ("Sessions ended", "By what ended them.", "ops", [("{{cause}}", rate("sessions_closed", by="cause"))]),
        ("Commands refused", "Answered with an error; those above a client's rate are among them.", "ops",
         [("refused", rate("commands_refused")), ("above the rate", rate("commands_rate_limited"))]),
        ("Questions to the hook", "And those it did not answer in time.", "ops",
         [("asked", rate("hook_questions")), ("unanswered", rate("hook_unanswered"))]),
    ]),
    ("TLS and slow clients", [
        ("TLS handshakes", "Full ones cost a signature.", "ops", [("{{kind}}", rate("tls_handshakes", by="kind"))]),
        ("Deliveries dropped", "By slow policies, and in groups whose members went.", "ops",
         [("{{reason}}", rate("messages_dropped", by="reason"))]),
        ("Sends that were not taken whole", "Because the client had not read enough.", "ops",
         [("blocked", rate("sends_blocked")), ("slow consumers closed", rate("sessions_closed", cause="slow_consumer"))]),
    ]),
]

SOURCE = {"type": "prometheus", "uid": "${source}"}


def panels():
    number, top = 0, 0
    for title, charts in ROWS:
        number += 1
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [],
               "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}}
        top += 1
        wide = WIDTH // 3
        for at, (title, description, unit, queries) in enumerate(charts):
            number += 1
            targets = [{"refId": chr(ord("A") + n), "datasource": SOURCE, "expr": query, "legendFormat": legend}
                       for n, (legend, query) in enumerate(queries)]
            yield {"id": number, "type": "timeseries", "title": title, "description": description, "datasource": SOURCE,
                   "gridPos": {"x": at % 3 * wide, "y": top + at // 3 * HEIGHT, "w": wide, "h": HEIGHT},
                   "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10, "showPoints": "never"}},
                                   "overrides": []},
                   "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
                   "targets": targets}
        top += -(-len(charts) // 3) * HEIGHT


def variable(name, label, kind, **more):
    return {"name": name, "label": label, "type": kind, **more}


DASHBOARD = {
    "uid": "tidecast", "title": "tidecast", "tags": ["tidecast"], "schemaVersion": 39, "editable": True,
    "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
    "templating": {"list": [
        variable("source", "Data source", "datasource", query="prometheus"),
        variable("instance", "Broker", "query", datasource=SOURCE, query="label_values(tidecast_build_info, instance)",
                 definition="label_values(tidecast_build_info, instance)", includeAll=True, multi=True, refresh=2,
                 current={"text": "All", "value": "$__all"}),
    ]},
    "panels": list(panels()),
}

print(json.dumps(DASHBOARD, indent=1, ensure_ascii=False))
