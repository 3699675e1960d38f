"""The shape of the sample company: sites, departments, grades, and the usual topics of its people.

Halden makes medical pumps. Halden Care, its small sister company, services them in hospitals. It is an organisation of
its own.
"""

from dataclasses import dataclass

MAIN, SISTER = "halden", "halden-care"
SISTER_SITE = "leeds"
SISTER_DEPARTMENTS = (("field-service", 14), ("quality", 6), ("finance", 3))


@dataclass(frozen=True)
class Site:
    id: str
    time_zone: str
    locale: str
    local_language: str
    people: int
    """The relative size of the site. The share is this number divided by the sum over all sites."""
    cultures: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Department:
    id: str
    people: int
    disciplines: tuple[str, ...]
    shifts: float
    """The share of the staff that works in rotating shifts."""
    sites: tuple[str, ...]
    knows: tuple[str, ...]
    """Topics that come with the job."""


SITES = (
    Site(
        "rotterdam",
        "Europe/Amsterdam",
        "nl-NL",
        "nl",
        32,
        (("dutch", 8), ("surinamese", 2), ("turkish", 2), ("arab", 1)),
    ),
    Site("leeds", "Europe/London", "en-GB", "en", 22, (("english", 8), ("irish", 2), ("jamaican", 1), ("polish", 2))),
    Site("pune", "Asia/Kolkata", "en-IN", "hi", 22, (("marathi", 6), ("indian", 7), ("tamil", 2))),
    Site("campinas", "America/Sao_Paulo", "pt-BR", "pt", 14, (("brazilian", 12), ("japanese", 1), ("colombian", 1))),
    Site("montreal", "America/Toronto", "fr-CA", "fr", 10, (("quebecois", 6), ("canadian", 4), ("chinese", 2))),
)

ALL_SITES = tuple(site.id for site in SITES)

DEPARTMENTS = (
    Department(
        "engineering",
        62,
        ("mechanics", "electronics", "software", "systems"),
        0.0,
        ("rotterdam", "pune", "montreal"),
        ("software-architecture", "prototyping", "data-analysis", "agile", "testing"),
    ),
    Department(
        "production",
        78,
        ("assembly", "machining", "maintenance", "logistics"),
        0.75,
        ("rotterdam", "pune", "campinas"),
        ("lean", "occupational-safety", "industry-40", "process-design", "shift-planning"),
    ),
    Department(
        "quality",
        34,
        ("inspection", "validation", "documentation"),
        0.3,
        ("rotterdam", "pune", "leeds"),
        ("quality", "compliance", "statistics", "process-design", "risk-management"),
    ),
    Department(
        "supply-chain",
        28,
        ("planning", "purchasing", "logistics"),
        0.2,
        ("rotterdam", "campinas"),
        ("supply-chain", "negotiation", "procurement", "dashboards", "circular-economy"),
    ),
    Department(
        "field-service",
        36,
        ("repair", "installation", "training"),
        0.4,
        ALL_SITES,
        ("customer-service", "complaints", "maintenance", "public-speaking", "customer-experience"),
    ),
    Department(
        "sales",
        34,
        ("accounts", "tenders", "inside-sales"),
        0.0,
        ALL_SITES,
        ("sales", "negotiation", "key-accounts", "tenders", "networking"),
    ),
    Department(
        "marketing",
        20,
        ("communications", "product-marketing", "events"),
        0.0,
        ("rotterdam", "leeds", "montreal"),
        ("brand", "content-marketing", "market-analysis", "storytelling", "media-relations"),
    ),
    Department(
        "finance",
        24,
        ("accounting", "controlling", "treasury"),
        0.0,
        ("rotterdam", "leeds", "pune"),
        ("budgeting", "controlling", "financial-statements", "business-cases", "spreadsheets"),
    ),
    Department(
        "people",
        18,
        ("recruiting", "learning", "payroll"),
        0.0,
        ("rotterdam", "leeds", "pune"),
        ("coaching", "hiring", "employment-law", "mental-health", "feedback-giving"),
    ),
    Department(
        "information-technology",
        26,
        ("platforms", "security", "support"),
        0.15,
        ("rotterdam", "pune"),
        ("cloud", "cyber-security", "devops", "sql", "automation"),
    ),
    Department(
        "legal",
        10,
        ("contracts", "compliance"),
        0.0,
        ("rotterdam", "leeds"),
        ("contracts", "compliance", "data-protection", "intellectual-property", "employment-law"),
    ),
    Department(
        "medical-affairs",
        16,
        ("clinical", "studies", "safety"),
        0.0,
        ("rotterdam", "montreal", "leeds"),
        ("compliance", "statistics", "public-speaking", "user-research", "writing"),
    ),
)

FRESH_TOPICS = (
    "generative-ai", "prompt-writing", "social-media", "short-video", "automation",
    "data-visualisation", "collaboration-tools", "remote-work", "youth-culture", "unconscious-bias",
    "generations", "inclusive-language", "climate", "user-experience",
)  # fmt: skip
"""Topics that people with fewer years usually offer, and people with more years usually seek."""

SEASONED_TOPICS = (
    "strategy", "leading-teams", "negotiation", "decision-making", "organisational-politics",
    "career-planning", "financial-statements", "executive-presence", "change-management", "networking",
    "conflict", "industry-knowledge", "delegation", "business-cases",
)  # fmt: skip
"""Topics that people with more years usually offer, and people with fewer years usually seek."""
