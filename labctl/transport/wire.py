"""Byte links over real wires: serial lines and sockets by pyserial, everything else by VISA."""

from __future__ import annotations

import logging
import socket
from typing import Any

from labctl.clock import RealClock
from labctl.errors import ConnectionLost, Exchange, InputError
from labctl.transport.settings import WireSettings

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 3.0
_RECEIVE_SIZE = 1 << 16
_RTS_PAUSE_S = 0.05


class SocketLink:
    """A TCP connection."""

    def __init__(self, host: str, port: int) -> None:
        self._name = f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S)
        except OSError as error:
            raise ConnectionLost(f"cannot connect to {self._name}: {error}", exchange=Exchange()) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(_CONNECT_TIMEOUT_S)
            self._socket.sendall(data)
        except OSError as error:
            raise ConnectionLost(f"{self._name}: {error}", exchange=Exchange(repr(data))) from error

    def receive(self, timeout_s: float) -> bytes:
        try:
            self._socket.settimeout(max(timeout_s, 1e-4))
            data = self._socket.recv(_RECEIVE_SIZE)
        except TimeoutError:
            return b""
        except OSError as error:
            raise ConnectionLost(f"{self._name}: {error}") from error
        if not data:
            raise ConnectionLost(f"{self._name}: the other side closed the connection")
        return data

    def clear(self) -> None:
        try:
            self._socket.setblocking(False)
            while self._socket.recv(_RECEIVE_SIZE):
                pass
        except BlockingIOError:
            return
        except OSError as error:
            raise ConnectionLost(f"{self._name}: {error}") from error
        raise ConnectionLost(f"{self._name}: the other side closed the connection")

    def close(self) -> None:
        # Closing alone does not wake a thread that is waiting in receive().
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()


class SerialLink:
    """A serial line."""

    def __init__(self, port: str, settings: WireSettings) -> None:
        import serial

        self._name = port
        self._closed = False
        # pyserial lets a TypeError out when another thread closes the port during a read.
        self._errors = (serial.SerialException, OSError, TypeError)
        try:
            self._port = serial.serial_for_url(
                port,
                baudrate=settings.baud_rate,
                bytesize=settings.data_bits,
                parity=settings.parity,
                stopbits=settings.stop_bits,
                xonxoff=settings.xonxoff,
                rtscts=settings.rtscts,
                timeout=settings.timeout_s,
                write_timeout=settings.timeout_s,
            )
        except (*self._errors, ValueError) as error:
            raise ConnectionLost(f"cannot open the serial port {port}: {error}") from error
        if settings.rts_pulse:
            self._pulse_rts()

    def _pulse_rts(self) -> None:
        clock = RealClock()
        try:
            for raised in (False, True):
                self._port.rts = raised
                clock.sleep(_RTS_PAUSE_S)
            self._port.reset_input_buffer()
            self._port.reset_output_buffer()
        except self._errors as error:
            # A pseudo-terminal and some converters have no such line; whoever listens there does not miss it.
            log.info("%s: RTS cannot be switched (%s)", self._name, error)

    def send(self, data: bytes) -> None:
        try:
            self._port.write(data)
            self._port.flush()
        except self._errors as error:
            raise ConnectionLost(f"{self._name}: {error}", exchange=Exchange(repr(data))) from error

    def receive(self, timeout_s: float) -> bytes:
        try:
            self._port.timeout = timeout_s
            first = self._port.read(1)
            if self._closed:
                raise ConnectionLost(f"{self._name}: the port was closed")
            return first + self._port.read(self._port.in_waiting) if first else b""
        except self._errors as error:
            raise ConnectionLost(f"{self._name}: {error}") from error

    def clear(self) -> None:
        try:
            self._port.reset_input_buffer()
        except self._errors as error:
            raise ConnectionLost(f"{self._name}: {error}") from error

    def close(self) -> None:
        # Closing alone does not wake a thread that is waiting in receive(); not every kind of port can be woken.
        self._closed = True
        wake = getattr(self._port, "cancel_read", None)
        try:
            if wake is not None and self._port.is_open:
                wake()
            self._port.close()
        except self._errors:
            pass


class VisaLink:
    """A VISA resource (USBTMC, GPIB, VXI-11, ASRL, TCPIP SOCKET), by the vendor's VISA or by pyvisa-py."""

    def __init__(self, resource: str, settings: WireSettings) -> None:
        import pyvisa
        from pyvisa.constants import ControlFlow, Parity, StatusCode, StopBits

        self._name = resource
        self._timeout_code = StatusCode.error_timeout
        self._visa_error = pyvisa.VisaIOError
        self._errors = (pyvisa.VisaIOError, pyvisa.errors.InvalidSession, ValueError, OSError, AttributeError)
        self._serial = resource.upper().startswith("ASRL")
        self._stream = self._serial or resource.upper().endswith("::SOCKET")
        try:
            manager: Any = self._resource_manager(pyvisa)
            self._resource: Any = manager.open_resource(resource, open_timeout=int(_CONNECT_TIMEOUT_S * 1000))
        except self._errors as error:
            raise ConnectionLost(f"cannot open the VISA resource {resource}: {error}") from error
        self._resource.write_termination = ""
        self._resource.read_termination = (
            None if self._stream else settings.read_termination.decode(settings.encoding) or None
        )
        if self._serial:
            self._resource.baud_rate = settings.baud_rate
            self._resource.data_bits = settings.data_bits
            self._resource.parity = {"N": Parity.none, "E": Parity.even, "O": Parity.odd}[settings.parity]
            self._resource.stop_bits = {1: StopBits.one, 2: StopBits.two}[settings.stop_bits]
            if settings.rtscts:
                self._resource.flow_control = ControlFlow.rts_cts

    @staticmethod
    def _resource_manager(pyvisa: Any) -> Any:
        try:
            return pyvisa.ResourceManager()
        except (ValueError, OSError):
            return pyvisa.ResourceManager("@py")

    def send(self, data: bytes) -> None:
        try:
            self._resource.write_raw(data)
        except self._errors as error:
            raise ConnectionLost(f"{self._name}: {error}", exchange=Exchange(repr(data))) from error

    def receive(self, timeout_s: float) -> bytes:
        try:
            self._resource.timeout = max(int(timeout_s * 1000), 1)
            return self._read_stream() if self._stream else bytes(self._resource.read_raw())
        except self._visa_error as error:
            if error.error_code == self._timeout_code:
                return b""
            raise ConnectionLost(f"{self._name}: {error}") from error
        except self._errors as error:
            raise ConnectionLost(f"{self._name}: {error}") from error

    def _read_stream(self) -> bytes:
        # VISA throws away what came before a time-out, so a stream is never asked for more than is there.
        first = self._resource.read_bytes(1, chunk_size=1)
        waiting = self._resource.bytes_in_buffer if self._serial else 0
        return first + self._resource.read_bytes(waiting) if waiting else first

    def clear(self) -> None:
        while self.receive(0.001):
            pass

    def close(self) -> None:
        # The resource manager stays open: it is shared, and closing it would close every other VISA resource.
        try:
            self._resource.close()
        except self._errors:
            pass


def open_wire(resource: str, settings: WireSettings) -> SocketLink | SerialLink | VisaLink:
    """Open ``serial:PORT``, ``socket://HOST:PORT`` or a VISA resource name."""
    scheme, _, address = resource.partition(":")
    if scheme == "serial":
        return SerialLink(address, settings)
    if scheme == "socket":
        host, port = split_host_port(address.removeprefix("//"), resource)
        return SocketLink(host, port)
    return VisaLink(resource, settings)


def split_host_port(address: str, resource: str) -> tuple[str, int]:
    """Split ``host:port``; raises InputError naming the resource."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"the resource {resource!r} needs host:port", todo="write e.g. socket://192.168.0.7:4000")
    return host.strip("[]"), int(port)
