"""Mistakes that a maintainer could make, each with the test that says so: data for ``__main__``.

Rules kept here:

* A mistake is one text in one file put in another one's place. The old text stands there once.
* The test is the one that says what was broken, where several fail.
"""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Mutant:
    """One mistake."""

    broken: str
    """What it is, in words."""
    file: str
    old: str
    new: str
    test: str
    """Under ``tests/``."""


MUTANTS: Final = (
    # --- the WebSocket layer --------------------------------------------------------------------
    Mutant(
        "the limit on the HTTP head forgets the heads before it",
        "butter_proto/websocket.py",
        "if self._head_size + size > MAX_HEAD:",
        "if size > MAX_HEAD:",
        "proto/test_guarantees_bounds.py::test_g9_the_head_of_an_answer_is_bounded",
    ),
    Mutant(
        "the limit on a message looks at each fragment alone",
        "butter_proto/websocket.py",
        "if self._size > self._limits.max_message:",
        "if length > self._limits.max_message:",
        "proto/test_guarantees_bounds.py::test_g9_a_message_is_bounded_before_its_bytes_arrive",
    ),
    Mutant(
        "fragments are counted over all messages",
        "butter_proto/websocket.py",
        "self._size = self._fragments = 0\n\n",
        "self._size = 0\n\n",
        "proto/test_websocket.py::test_the_limits_count_anew_for_each_message",
    ),
    Mutant(
        "a Close frame without a code is answered with 1005",
        "butter_proto/websocket.py",
        "None if code == _NO_STATUS else code",
        "code",
        "proto/test_websocket.py::test_a_close_without_a_code_is_1005_and_answered_without_one",
    ),
    Mutant(
        "a ping is answered without its payload",
        "butter_proto/websocket.py",
        "self.outbox.pong(bytes(event.payload))",
        'self.outbox.pong(b"")',
        "proto/test_websocket.py::test_pings_inside_a_fragmented_message_are_answered_at_once_and_in_order",
    ),
    Mutant(
        "a data frame leaves before a ping or a Close frame",
        "butter_proto/outbox.py",
        "        if self._control:\n            return self._control_frame(room, now)\n"
        "        if self._messages:\n            return self._message_frame(next(iter(self._messages)), room, now)\n",
        "        if self._messages:\n            return self._message_frame(next(iter(self._messages)), room, now)\n"
        "        if self._control:\n            return self._control_frame(room, now)\n",
        "proto/test_outbox.py::test_control_frames_pass_a_large_upload_at_the_next_frame",
    ),
    Mutant(
        "the second fragment of a message is a new message",
        "butter_proto/outbox.py",
        "first = _TEXT if offset == 0 else _CONTINUATION",
        "first = _TEXT",
        "proto/test_outbox.py::test_a_text_of_any_size_arrives_as_it_was_in_fragments_of_64_kib",
    ),
    Mutant(
        "frames are masked with zeros",
        "butter_proto/outbox.py",
        "key = self._entropy(4)",
        "key = bytes(4)",
        "proto/test_outbox.py::test_every_frame_is_masked_with_its_own_four_bytes_of_the_entropy",
    ),
    Mutant(
        "messages that wait leave after the Close frame",
        "butter_proto/outbox.py",
        "        self._messages.clear()\n        self._closed = True",
        "        self._closed = True",
        "proto/test_outbox.py::test_a_close_passes_a_half_sent_message_and_nothing_leaves_after_it",
    ),
    # --- frames ---------------------------------------------------------------------------------
    Mutant(
        "1e999 is taken for a number",
        "butter_proto/codec.py",
        ", parse_float=_finite)",
        ")",
        "proto/test_frames.py::test_a_number_beyond_the_limits_is_invalid_wherever_it_stands",
    ),
    Mutant(
        "nesting has the interpreter's limit only",
        "butter_proto/frames.py",
        "if len(text) > _NOT_DEEP and is_too_deep(text, message):",
        "if not text:",
        "proto/test_frames.py::test_nesting_is_bounded_by_a_limit_of_our_own",
    ),
    Mutant(
        'whatever is true counts as "ok": true',
        "butter_proto/frames.py",
        'if message.get("ok") is True:',
        'if message.get("ok"):',
        "proto/test_frames.py::test_only_ok_true_is_a_success",
    ),
    Mutant(
        "true counts as the number 1",
        "butter_proto/frames.py",
        "return value if type(value) is int and 0",
        "return value if isinstance(value, int) and 0",
        "proto/test_frames.py::test_a_whole_number_is_an_integer_that_javascript_can_count_to",
    ),
    # --- the handshake --------------------------------------------------------------------------
    Mutant(
        "all scopes are asked for with a device token that covers fewer",
        "butter_proto/handshake.py",
        '"scopes": list(auth.scopes), "auth"',
        '"scopes": list(identity.scopes), "auth"',
        "proto/test_connector_device.py::test_a_kept_token_connects_alone_and_asks_for_what_it_was_granted",
    ),
    Mutant(
        "a challenge without a time is signed",
        "butter_proto/handshake.py",
        '        return "its ts is no time"',
        "        pass",
        "proto/test_connector_device.py::test_a_challenge_without_a_time_is_not_answered",
    ),
    Mutant(
        "the gateway's tick interval is read in seconds",
        "butter_proto/handshake.py",
        "ticks / 1000 if ticks",
        "ticks if ticks",
        "proto/test_handshake.py::test_a_tick_interval_is_believed_in_1_to_600_s",
    ),
    Mutant(
        "scopes are signed in another form than the gateway's",
        "butter_proto/device_auth.py",
        '",".join(params["scopes"])',
        '" ".join(params["scopes"])',
        "proto/test_device_auth.py::test_the_vector_that_the_gateway_accepted_comes_out",
    ),
    Mutant(
        "a nonce may hold the separator of the signed fields",
        "butter_proto/device_auth.py",
        " and _SEPARATOR not in nonce",
        "",
        "proto/test_device_auth.py::test_a_nonce_that_could_pose_as_more_is_not_signed",
    ),
    Mutant(
        "a device token is tried at any endpoint after the shared one was refused",
        "butter_proto/credentials.py",
        "is_device and (self._trusted or not shared):",
        "is_device:",
        "proto/test_credentials.py::test_an_untrusted_endpoint_never_gets_the_stored_token_by_refusing_the_shared_one",
    ),
    Mutant(
        "a refused device token stays in use",
        "butter_proto/credentials.py",
        "            self._in_use = None\n        self._durable",
        "            pass\n        self._durable",
        "proto/test_credentials.py::test_a_refused_shared_token_is_followed_by_the_stored_one_once",
    ),
    Mutant(
        "without a certificate there is nothing to hold against a pin",
        "butter_proto/connection.py",
        "if pins and not (certificate and any(pin.matches(certificate) for pin in pins)):",
        "if pins and certificate and not any(pin.matches(certificate) for pin in pins):",
        "proto/test_pinning.py::test_any_other_peer_is_dropped_unspoken_to_and_not_tried_again",
    ),
    Mutant(
        "a pin of a public key matches no certificate",
        "butter_proto/pins.py",
        "return key is not None and hashlib.sha256(key).digest() == self.digest",
        "return key == self.digest",
        "proto/test_pins.py::test_a_renewed_certificate_with_the_same_key_matches_the_keys_pin_alone",
    ),
    # --- one connection -------------------------------------------------------------------------
    Mutant(
        "events come before Online while a token is being stored",
        "butter_proto/connection.py",
        "            self._queue.hold()\n",
        "",
        "proto/test_phases.py::test_every_fault_is_met_three_times_in_a_row_at_each_of_its_places",
    ),
    Mutant(
        "events missed before the first one are no gap",
        "butter_proto/connection.py",
        "self._expected_seq = 1  #",
        "self._expected_seq = None  #",
        "proto/test_connection.py::test_events_lost_before_the_first_one_are_a_gap",
    ),
    Mutant(
        "the limit of a phase runs on into the next one",
        "butter_proto/connection.py",
        "        self.phase = phase\n        self._timers.set(_Timer.PHASE, self._now + limit)",
        "        self.phase = phase",
        "proto/test_connection.py::test_no_challenge_ends_after_the_challenge_limit",
    ),
    Mutant(
        "the stream's end is not waited for after a Close frame",
        "butter_proto/connection.py",
        "        if self._link.outbox.closed:\n            self.phase = Phase.CLOSING",
        "        if self._link.outbox.closed and online:\n            self.phase = Phase.CLOSING",
        "proto/test_phases.py::test_every_fault_is_met_three_times_in_a_row_at_each_of_its_places",
    ),
    # --- requests -------------------------------------------------------------------------------
    Mutant(
        "a late answer is a second outcome",
        "butter_proto/requests.py",
        "        if request.abandoned:\n            return None\n        self._forget(request)",
        "        self._forget(request)",
        "proto/test_requests.py::test_a_request_of_which_a_byte_left_may_have_executed",
    ),
    Mutant(
        "an answered request keeps its place in flight",
        "butter_proto/requests.py",
        "        self._window.give_back()\n",
        "",
        "proto/test_requests.py::test_no_more_than_the_window_leaves_and_the_rest_follows_in_order",
    ),
    Mutant(
        "a place in flight is never given back without an answer",
        "butter_proto/requests.py",
        "            self._timers.set(request, now + AFTERMATH)\n",
        "",
        "proto/test_requests.py::test_an_abandoned_request_keeps_its_place_for_60_s",
    ),
    Mutant(
        "a request that was taken back before it left goes out all the same",
        "butter_proto/requests.py",
        "self._outbox.withdraw(request.outgoing)",
        "pass",
        "proto/test_guarantees_requests.py::test_g12_no_request_goes_out_twice_and_none_that_is_called_not_sent",
    ),
    Mutant(
        "a gateway without a boot id gets replays",
        "butter_proto/requests.py",
        "if not request.replay or boot_id is None:",
        "if not request.replay:",
        "proto/test_requests.py::test_nothing_is_replayed_without_a_boot_or_after_a_stop",
    ),
    Mutant(
        "a request is asked again after its deadline",
        "butter_proto/requests.py",
        "        if request.is_late(again_at):\n            return False\n",
        "",
        "proto/test_requests.py::test_it_is_not_asked_again_where_its_time_would_be_up",
    ),
    Mutant(
        "what comes back to the queue stands behind what came later",
        "butter_proto/backlog.py",
        "                self._queue.move_to_end(request.id)",
        "                pass",
        "proto/test_backlog.py::test_what_comes_back_goes_to_the_head_in_its_order",
    ),
    Mutant(
        "replays go to a gateway that was started anew",
        "butter_proto/backlog.py",
        "if boot_id is not None and boot_id in request.boots.values():",
        "if boot_id is not None:",
        "proto/test_backlog.py::test_in_a_pool_another_gateways_hello_says_nothing_of_a_replay",
    ),
    # --- keepalive ------------------------------------------------------------------------------
    Mutant(
        "probes drift by the time of each wake-up",
        "butter_proto/keepalive.py",
        "self._next += interval * max(1, (now - self._next) // interval + 1)",
        "self._next = now + interval",
        "proto/test_keepalive.py::test_a_suspend_between_two_probes_asks_at_once",
    ),
    Mutant(
        "an inbound byte does not set the misses to 0",
        "butter_proto/keepalive.py",
        "        self._in_a_row = 0\n        self._look_until = None\n\n",
        "        self._look_until = None\n\n",
        "proto/test_keepalive.py::test_a_byte_sets_the_misses_to_zero",
    ),
    Mutant(
        "the time to answer runs from when a probe was queued",
        "butter_proto/keepalive.py",
        "elif asked_at + self._settings.timeout > now:",
        "elif asked_at > now:",
        "proto/test_keepalive.py::test_a_probe_that_left_late_has_its_full_time_from_then",
    ),
    Mutant(
        "a driver that is always late finds no peer gone",
        "butter_proto/keepalive.py",
        "        if self._look_until is None:\n            self._look_until",
        "        if True:\n            self._look_until",
        "proto/test_keepalive.py::test_a_driver_however_late_cannot_keep_a_dead_peer",
    ),
    # --- reconnecting ---------------------------------------------------------------------------
    Mutant(
        "the backoff has no jitter",
        "butter_proto/reconnect.py",
        "settings.factor**exponent) * random()",
        "settings.factor**exponent)",
        "proto/test_reconnect.py::test_the_backoff_doubles_from_one_second_up_to_its_cap",
    ),
    Mutant(
        "all that were told to wait come back at once",
        "butter_proto/reconnect.py",
        "(hint or row.assumed_hint) + _backoff(ending, attempts, settings, random)",
        "max(hint or row.assumed_hint, _backoff(ending, attempts, settings, random))",
        "proto/test_reconnect.py::test_a_hint_is_a_floor_and_the_backoff_comes_on_top",
    ),
    Mutant(
        "reconnect_now undercuts a lock-out",
        "butter_proto/reconnect.py",
        "hint if row.hint_binds else 0.0",
        "0.0",
        "proto/test_supervisor.py::test_a_rate_limit_binds_even_an_attempt_that_is_asked_for",
    ),
    Mutant(
        "a refused credential is tried for ever",
        "butter_proto/reconnect.py",
        "*(Row(*_detail(code), Action.STOP, advice) for code, advice in _STOPS.items()),",
        "*(Row(*_detail(code), Action.RETRY, advice) for code, advice in _STOPS.items()),",
        "proto/test_reconnect.py::test_an_ending_means_what_its_row_says",
    ),
    Mutant(
        "the backoff starts over at every hello",
        "butter_proto/supervisor.py",
        "if online_since is not None and now - online_since >= self._settings.stable_after:",
        "if online_since is not None:",
        "proto/test_supervisor.py::test_the_backoff_grows_while_connections_do_not_last",
    ),
    Mutant(
        "a pairing request is told at every poll",
        "butter_proto/supervisor.py",
        "        self._pairing_request = request_id\n",
        "",
        "proto/test_phases.py::test_every_fault_is_met_three_times_in_a_row_at_each_of_its_places",
    ),
    # --- time, events, the connector ------------------------------------------------------------
    Mutant(
        "a clock that goes back is believed",
        "butter_proto/timers.py",
        "return now if self.now < now <= LATEST else self.now  #",
        "return now if now <= LATEST else self.now  #",
        "proto/test_timers.py::test_the_clock_shows_the_largest_usable_time_it_was_told",
    ),
    Mutant(
        "a deadline that was moved expires at its old time",
        "butter_proto/timers.py",
        "if self._when.get(entry[2]) is entry:",
        "if entry[2] in self._when:",
        "proto/test_timers.py::test_timers_do_what_one_naive_dict_does",
    ),
    Mutant(
        "a driver is asked to wake up at once, again and again",
        "butter_proto/connector.py",
        "return None if due is None else max(due, self._handled + TICK)",
        "return due",
        "proto/test_guarantees_time.py::test_g5_nothing_is_due_at_a_time_that_was_handled",
    ),
    Mutant(
        "no driver wakes up for the end of a backoff",
        "butter_proto/connector.py",
        "        due = self._recovery.next_timeout()\n        for connection in",
        "        due = None\n        for connection in",
        "proto/test_phases.py::test_every_fault_is_met_three_times_in_a_row_at_each_of_its_places",
    ),
    Mutant(
        "no driver wakes up for a gateway that does not answer a Close frame",
        "butter_proto/connector.py",
        "            one = connection.next_timeout()\n            if one is not None and (",
        "            one = connection.next_timeout()\n"
        "            if one is not None and connection.phase is not Phase.CLOSING and (",
        "proto/test_phases.py::test_every_fault_is_met_three_times_in_a_row_at_each_of_its_places",
    ),
    Mutant(
        "a connection that is only closing still decides what follows",
        "butter_proto/connector.py",
        "if connection is self._current:\n            if connection.issued",
        "if connection is not None:\n            if connection.issued",
        "proto/test_phases.py::test_every_fault_is_met_three_times_in_a_row_at_each_of_its_places",
    ),
    Mutant(
        "bytes are taken where the host speaks WebSocket",
        "butter_proto/connector.py",
        "if connection is not None and framing is self._settings.framing:",
        "if connection is not None:",
        "proto/test_guarantees.py::test_g8_inputs_of_the_other_framing_do_nothing",
    ),
    Mutant(
        "the loss of events is counted without the gaps in it",
        "butter_proto/event_queue.py",
        "overflow.count += missed_before + 1",
        "overflow.count += 1",
        "proto/test_event_queue.py::test_a_gap_that_a_lost_event_would_have_shown_is_part_of_the_loss",
    ),
    Mutant(
        "a secret that is learnt later stays in the names of events",
        "butter_proto/redaction.py",
        "        self._names.clear()\n",
        "",
        "proto/test_redaction.py::test_a_name_is_looked_at_again_when_there_are_more_secrets",
    ),
    Mutant(
        "the reason of a Close frame is told with its secrets",
        "butter_proto/redaction.py",
        "close_reason=self._cut(ending.close_reason)",
        "close_reason=ending.close_reason",
        "proto/test_guarantees_secrets.py::test_g11_a_secret_that_the_gateway_repeats_is_not_told",
    ),
    # --- the pool -------------------------------------------------------------------------------
    Mutant(
        "a better gateway takes over as soon as it is online",
        "butter_proto/election.py",
        "(member.online_since or 0.0) + self._stable_after",
        "(member.online_since or 0.0) + TICK",
        "proto/test_election.py::test_a_better_one_that_returns_takes_over_after_it_was_stable_and_not_before",
    ),
    Mutant(
        "a primary that was replaced goes on telling its events",
        "butter_proto/election.py",
        "            before.standing.step_down()\n",
        "            pass\n",
        "proto/test_election.py::test_a_primary_that_steps_down_is_heard_no_more",
    ),
    Mutant(
        "a change of the primary is told as no loss",
        "butter_proto/election.py",
        "        if takes_over:\n",
        "        if takes_over and boot_changed:\n",
        "proto/test_election.py::test_another_connection_to_the_same_gateway_is_no_other_boot",
    ),
    # --- the adapters ---------------------------------------------------------------------------
    Mutant(
        "trio: a socket is left open when its transport is closed",
        "butter_trio/driver.py",
        "            await close_at_once(stream)",
        '            vars(trio).setdefault("kept", []).append(stream)',
        "trio/test_driver.py::test_a_stream_is_closed_by_the_time_the_block_was_left",
    ),
    Mutant(
        "trio: a failed write hides the answer that is still unread",
        "butter_trio/driver.py",
        "                with trio.move_on_after(_READ_ON):\n"
        "                    await transport.read_to_end.wait()\n",
        "",
        "trio/test_driver.py::test_a_refusal_that_is_unread_when_a_write_fails_is_still_read",
    ),
    Mutant(
        "trio: a machine is not told the time after a long write",
        "butter_trio/driver.py",
        "                return\n            machine.handle_timeout(trio.current_time())\n",
        "                return\n",
        "trio/test_driver.py::test_what_waited_for_a_long_write_is_dated_by_its_end",
    ),
    Mutant(
        "threads: the rest of a chunk is dropped after a short write",
        "butter_threads/transport.py",
        "self._chunk = self._chunk[sent:]",
        'self._chunk = memoryview(b"")',
        "threads/test_transport.py::test_what_the_socket_does_not_take_at_once_arrives_whole_and_in_order",
    ),
    Mutant(
        "threads: a probe waits behind all that the system would buffer",
        "butter_threads/transport.py",
        "        _keep_little_unsent(opened)\n",
        "",
        "threads/test_transport.py::test_the_system_takes_little_that_it_cannot_send_yet",
    ),
    Mutant(
        "threads: what TLS has read already waits for more to come",
        "butter_threads/driver.py",
        "        self._unread[transport] = None\n",
        "",
        "threads/test_driver_contract.py::test_what_a_socket_holds_and_the_selector_cannot_see_is_read_to_its_end",
    ),
    Mutant(
        "threads: a failed write hides the answer that is still unread",
        "butter_threads/driver.py",
        "            for _ in range(IN_A_ROW):\n"
        "                if not self._read_once(transport):\n"
        "                    break\n",
        "",
        "threads/test_driver.py::test_a_refusal_that_is_unread_when_a_write_fails_is_still_read",
    ),
    # --- butter check -----------------------------------------------------------------------------
    Mutant(
        "a report dates a drop from the first attempt",
        "butter_trio/check.py",
        "            at = trio.current_time() - self._first_online\n",
        "            at = trio.current_time() - self._started\n",
        "trio/test_check.py::test_a_drop_is_dated_from_the_first_hello",
    ),
    Mutant(
        "a report lists drops without a bound",
        "butter_trio/check.py",
        "if len(self._drops) < MAX_DROPS and self._first_online",
        "if self._first_online",
        "trio/test_check.py::test_each_drop_is_listed_and_the_first_thousand_at_most",
    ),
    Mutant(
        "the return from a drop that is not listed is taken for the last one's that is",
        "butter_trio/check.py",
        "if self._drops and self._drops[-1].offline_s is None:",
        "if self._drops:",
        "trio/test_check.py::test_each_drop_is_listed_and_the_first_thousand_at_most",
    ),
    Mutant(
        "a report says when a gateway was back, and not after how long",
        "butter_trio/check.py",
        "offline_s=round(at - drop.at_s, 3)",
        "offline_s=round(at, 3)",
        "trio/test_check.py::test_a_gateway_that_sleeps_from_10_to_40_is_lost_once_and_back_at_the_end",
    ),
    # --- the flight recorder ----------------------------------------------------------------------
    Mutant(
        "a recording takes a secret out of a text, but not the first part of it at the end",
        "butter_proto/testing/recording/fillers.py",
        "        return text[: len(text) - cut] + _PADDING * cut\n",
        "        return text\n",
        "testing/test_recording_messages.py::test_a_short_secret_is_taken_out_where_it_stands_alone",
    ),
    Mutant(
        "a recording forgets what a hello issued when its turn is let go",
        "butter_proto/testing/recording/recorded.py",
        "        self.tape.looked_at(connection)\n",
        "",
        "testing/test_recording_secrets.py::test_a_token_that_was_issued_in_a_dropped_attempt_stays_a_secret",
    ),
    Mutant(
        "a recording keeps texts that a hello has where a number belongs",
        "butter_proto/testing/recording/messages.py",
        "    return _scalar(value)\n\n\ndef _without_secrets",
        "    return value\n\n\ndef _without_secrets",
        "testing/test_recording_secrets.py::test_a_hello_is_kept_where_the_handshake_reads_it_and_nowhere_else",
    ),
    Mutant(
        "a recording keeps what an error says",
        "butter_proto/testing/recording/messages.py",
        '                case "code":\n',
        '                case "code" | "message":\n',
        "testing/test_recording_secrets.py::test_what_an_error_says_is_not_kept",
    ),
    Mutant(
        "a private file may be read by all",
        "butter_proto/private_file.py",
        "PRIVATE: Final = 0o600",
        "PRIVATE: Final = 0o644",
        "testing/test_recording_files.py::test_a_saved_file_is_for_its_owner_alone",
    ),
    Mutant(
        "a recording is written where the connector gives up",
        "butter_proto/testing/recording/recorder.py",
        "            self._writer.put(partial(self._write, recording, self.path))\n",
        "            self._write(recording, self.path)\n",
        "testing/test_recording_files.py::test_a_disk_that_is_slow_holds_up_nothing",
    ),
    Mutant(
        "a difference after a cut is always the cut's",
        "butter_proto/testing/recording/player.py",
        "by_cut = self._is_cut and bool(found) and not without_cut(then, now, self._known)",
        "by_cut = True",
        "testing/test_recordings.py::test_a_decision_that_came_out_otherwise_is_found",
    ),
    Mutant(
        "a replay draws anew what was drawn",
        "butter_proto/testing/recording/player.py",
        "            self._draws[kind].append(value)\n",
        "            pass\n",
        "testing/test_recordings.py::test_a_recording_comes_out_as_it_was",
    ),
    Mutant(
        "a recording keeps of an answer that is no hello what it has",
        "butter_proto/testing/recording/messages.py",
        '        if payload.get("type") != "hello-ok":\n            return {}\n',
        '        if payload.get("type") != "hello-ok":\n            return payload\n',
        "testing/test_recording_messages.py::test_a_message_keeps_its_size_and_its_effect",
    ),
    Mutant(
        "a recording keeps a hello as it came",
        "butter_proto/testing/recording/messages.py",
        "_without_secrets(_shaped(payload, _HELLO), self._fillers)",
        "_without_secrets(payload, self._fillers)",
        "testing/test_recording_secrets.py::test_a_hello_is_kept_where_the_handshake_reads_it_and_nowhere_else",
    ),
    Mutant(
        "a recording is cut inside a message",
        "butter_proto/testing/recording/reel.py",
        "            edge = kept.edge\n",
        "            edge = True\n",
        "testing/test_recording_cuts.py::test_a_cut_is_between_two_messages",
    ),
    Mutant(
        "a replay does not compare when the connector wants to be woken",
        "butter_proto/testing/recording/differences.py",
        "    *(decisions.SENT, decisions.MESSAGE, decisions.DUE),\n",
        "    *(decisions.SENT, decisions.MESSAGE),\n",
        "testing/test_recording_differences.py::test_another_wake_up_is_a_difference",
    ),
    Mutant(
        "a recording without its last line counts as whole",
        "butter_proto/testing/recording/reading.py",
        "is_whole=counted == len(entries)",
        "is_whole=True",
        "testing/test_recording_files.py::test_a_recording_that_lacks_a_line_is_read_and_known_not_to_be_whole",
    ),
    Mutant(
        "a recording's size is that of what was given, without what keeps it",
        "butter_proto/testing/recording/turn.py",
        "return _KEPT + own + given + drawn + sum(map(_size_of_decision, self.did))",
        "return given + drawn",
        "testing/test_recording_trim.py::test_the_size_that_is_told_is_what_is_taken",
    ),
    Mutant(
        "--record looks at the end whether its file can be written",
        "butter_trio/record_option.py",
        "        check_replaceable(path)\n",
        "        pass\n",
        "trio/test_recording_commands.py::test_a_file_that_cannot_be_written_is_refused_before_anything_is_done",
    ),
    Mutant(
        "--record writes nothing where the command ends well",
        "butter_trio/record_option.py",
        "            _save(recorder)\n",
        "            pass\n",
        "trio/test_recording_commands.py::test_a_call_is_recorded_and_comes_out_the_same",
    ),
    Mutant(
        "butter replay counts what a cut explains as a difference",
        "butter_trio/replay_command.py",
        "        if step.differences and not step.by_cut:\n",
        "        if step.differences:\n",
        "trio/test_recording_commands.py::test_as_json_each_step_is_an_object_and_the_verdict_the_last",
    ),
    Mutant(
        "butter replay ends well with a recording that was cut short",
        "butter_trio/replay_command.py",
        "return self.first is None and self.recording.is_whole",
        "return self.first is None",
        "trio/test_recording_commands.py::test_a_recording_that_was_cut_short_is_played_and_told",
    ),
)
