"""The agent: one data directory opened, its parts wired. Who holds one holds the directory's lock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from terminal_agent import __version__
from terminal_agent.card.keys import OneTap
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal import Journal, UnsureName
from terminal_agent.journal.space import Space
from terminal_agent.ports import Clock, Ids, SystemClock, SystemIds
from terminal_agent.service.card_lane import CardLane
from terminal_agent.service.keys.credentials import load_credentials, service_credentials, store_credentials
from terminal_agent.service.keys.store import IMPORT, KEYS_FOLDER, FileKeyStore, KeyStore
from terminal_agent.service.redemption import OnlineRedemptions
from terminal_agent.service.settings import KeysIn, Settings, set_crm_url
from terminal_agent.sync.adapters.base import CrmAdapter
from terminal_agent.sync.adapters.native import NativeCrm
from terminal_agent.sync.client import Credentials
from terminal_agent.sync.worker import SyncWorker
from terminal_agent.taps import Terminal


def open_key_store(settings: Settings) -> KeyStore:
    """Where this terminal's master keys are, as the config file says. Raises AgentError."""
    folder, credentials = settings.data_dir / KEYS_FOLDER, service_credentials()
    if settings.keys.provider is KeysIn.FILE:
        return FileKeyStore(folder, credentials)
    try:
        from terminal_agent.service.keys.token_keys import TokenKeyStore
    except ImportError as error:
        raise AgentError(
            ErrorCode.CONFIG_INVALID,
            "the library for PKCS#11 tokens is not installed",
            hint="Install it: pip install 'terminal-agent[pkcs11]'",
        ) from error
    return TokenKeyStore(settings.keys, settings.data_dir, folder, credentials)


class Agent:
    """Everything a command or the daemon works with."""

    def __init__(
        self,
        settings: Settings,
        config: Path,
        clock: Clock | None = None,
        ids: Ids | None = None,
        dial: Callable[[Credentials, Ids], CrmAdapter] = NativeCrm,
    ) -> None:
        self.settings = settings
        self.config = config
        self.clock = clock or SystemClock()
        self.ids = ids or SystemIds()
        self.version = __version__
        self._dial = dial
        self.keys = open_key_store(settings)
        self._credentials: Credentials | None = None
        self.credentials_problem: AgentError | None = None
        """Why what enrolment gave cannot be read: sales go on and wait, as without a line."""
        name = self._load_credentials()
        self._crm = self.open_crm()
        space = Space(settings.data_dir)
        self.journal = Journal(settings.data_dir, name, settings.currency, self.clock, self.ids, space)
        self.lane = CardLane(self.clock)
        self.sync = SyncWorker(self.journal, lambda: self._crm, self.clock, self.ids)
        self.redemptions = OnlineRedemptions(
            self.journal, self.crm_to_wait_for, self.sync.tell_of, self.clock, self.ids
        )

    def _load_credentials(self) -> str:
        """Gives the terminal's name with them."""
        try:
            self._credentials = load_credentials(self.settings.data_dir, self.settings.crm.url)
        except AgentError as problem:
            self.credentials_problem = problem
            return UnsureName(self.settings.terminal_id)
        return self._credentials.terminal_id if self._credentials else self.settings.terminal_id

    @property
    def terminal_id(self) -> str:
        return self.journal.events.terminal_id

    @property
    def credentials(self) -> Credentials | None:
        """What enrolment gave; None before."""
        return self._credentials

    @property
    def crm_url(self) -> str | None:
        return self._credentials.crm_url if self._credentials else self.settings.crm.url

    @property
    def terminal(self) -> Terminal:
        """What a tap needs; taken anew for each, because enrolment may have changed it."""
        if not self.keys.versions():
            raise AgentError(
                ErrorCode.CONFIG_INVALID,
                f"there is no master key set in {self.keys.place}",
                hint=IMPORT,
            )
        return Terminal(
            journal=self.journal,
            keys=OneTap(self.keys),
            clock=self.clock,
            ids=self.ids,
            terminal_id=self.terminal_id,
            currency=self.settings.currency,
            programme_id=self._credentials.programme_id if self._credentials else None,
        )

    def open_crm(self) -> CrmAdapter | None:
        """A client of its own for who asks; None before enrolment."""
        return self._dial(self._credentials, self.ids) if self._credentials else None

    def crm_to_wait_for(self) -> CrmAdapter | None:
        """A client for what a customer waits for. None too while the schedule keeps away from the CRM: no customer need
        find out again that it is down."""
        return None if self.sync.keeps_away else self.open_crm()

    def join(self, credentials: Credentials) -> None:
        """Keep what enrolment gave and use it from now on. Raises AgentError."""
        another_crm = self._credentials is None or self._credentials.programme_id != credentials.programme_id
        with self.sync.start_over(another_crm=another_crm):
            self._keep(credentials)
            self._credentials, self.credentials_problem = credentials, None
            self._crm = self.open_crm()
        if self.journal.events.terminal_id != credentials.terminal_id:
            self.journal.start_epoch(credentials.terminal_id)

    def _keep(self, credentials: Credentials) -> None:
        try:
            store_credentials(self.settings.data_dir, credentials)
        except OSError as error:
            raise AgentError(
                ErrorCode.CONFIG_INVALID,
                f"the CRM took this terminal, but its credentials cannot be written: {error.strerror}",
                hint="Make room on the disk (df -h), then join again with a new code: terminal-agent enroll --help",
            ) from error
        try:
            set_crm_url(self.config, credentials.crm_url)
        except (OSError, AgentError) as error:
            # A service may not write its config file; the credentials carry the address as well.
            if self.settings.crm.url not in (None, credentials.crm_url):
                raise AgentError(
                    ErrorCode.CONFIG_INVALID,
                    f"the CRM took this terminal, but {self.config} still names {self.settings.crm.url}: {error}",
                    hint=f'Put url = "{credentials.crm_url}" into its [crm] table, then: terminal-agent sync',
                ) from error

    def close(self) -> None:
        """Let go of the journal, the reader and the connection."""
        self.lane.close()
        self.journal.close()
        self.keys.close()
        if self._crm is not None:
            self._crm.close()
