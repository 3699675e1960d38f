"""Settings of notifier only: how it sends e-mail, and where the links in it lead."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from chassis.core.insecure_settings import is_loopback
from chassis.core.settings import PREFIX, SettingsSection
from contracts.email_address import parse_address


class MailSettings(SettingsSection):
    """The SMTP server that sends the mail, and the sender and links in each mail."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}NOTIFIER_")

    smtp_host: str = Field("127.0.0.1", min_length=1, description="The SMTP server that sends the e-mail.")
    smtp_port: int = Field(
        1025, ge=1, le=65535, description="The port of the SMTP server. 1025 is the mail catcher of the local stack."
    )
    smtp_security: Literal["none", "plain", "starttls", "tls"] = Field(
        "none",
        description="starttls and tls require a valid certificate of the server. none is for this machine only. "
        "plain is for another machine in a network that nobody else can listen to.",
    )
    smtp_username: str | None = Field(None, description="The user name at the SMTP server, if it requires one.")
    smtp_password: SecretStr | None = Field(None, description="The password at the SMTP server, if it requires one.")
    smtp_sender: str = Field(
        "viceversa@localhost", pattern=r"^[^\s@<>]+@[^\s@<>]+$", description="The sender address of all mail."
    )
    smtp_timeout: float = Field(20, gt=0, le=30, description="Seconds that each step with the SMTP server may take.")
    bounce_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="A secret of at least 32 characters. It marks each mail, so that a report that the mail did not "
        "arrive can be believed. Without it, no report has an effect. The same for all replicas.",
    )
    bounce_maildir: Path | None = Field(
        None,
        description="A Maildir into which the mail server delivers what comes back to the sender's address. Reports "
        "in it are processed and deleted.",
    )
    link_base: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="The beginning of all links in mails: a place with pages for people, such as "
        "https://mentoring.example. /pairings/{id} or /rounds/{id} is added. Without it, mails have no links: the "
        "services' own addresses answer programs, and show no page.",
    )

    @field_validator("smtp_sender")
    @classmethod
    def _check_sender(cls, value: str) -> str:
        if parse_address(value).needs_smtputf8:
            raise ValueError("the part of the sender's address before the @ must be ASCII: not every server takes more")
        return value

    @model_validator(mode="after")
    def _check_combinations(self) -> "MailSettings":
        if self.smtp_security == "none" and not is_loopback(self.smtp_host):
            raise ValueError(
                "mail to another machine must not be sent without encryption by mistake: set "
                f"{PREFIX}NOTIFIER_SMTP_SECURITY to starttls or tls"
            )
        if (self.smtp_username is None) != (self.smtp_password is None):
            raise ValueError(f"set both {PREFIX}NOTIFIER_SMTP_USERNAME and {PREFIX}NOTIFIER_SMTP_PASSWORD, or neither")
        if self.bounce_maildir is not None and self.bounce_key is None:
            raise ValueError(f"{PREFIX}NOTIFIER_BOUNCE_MAILDIR needs {PREFIX}NOTIFIER_BOUNCE_KEY as well")
        return self
