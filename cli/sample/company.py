"""The shape of the sample company: sites, departments, grades, and what people there tend to know and to wonder about.

Halden makes medical pumps. Halden Care, its small sister, services them in hospitals and is an organisation of its own.
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
    """Its share of the company, in parts of all sites' sum."""
    cultures: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Department:
    id: str
    people: int
    disciplines: tuple[str, ...]
    shifts: float
    """The share of its staff that works in rotating shifts."""
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

EVERYWHERE = tuple(site.id for site in SITES)

DEPARTMENTS = (
    Department(
        "engineering",
        62,
        ("mechanics", "electronics", "software", "systems"),
        0.0,
        ("rotterdam", "pune", "montreal"),
        ("software-engineering", "product-design", "data-analysis", "agile-delivery", "embedded-systems"),
    ),
    Department(
        "production",
        78,
        ("assembly", "machining", "maintenance", "logistics"),
        0.75,
        ("rotterdam", "pune", "campinas"),
        ("lean-operations", "health-and-safety", "automation", "process-improvement", "maintenance"),
    ),
    Department(
        "quality",
        34,
        ("inspection", "validation", "documentation"),
        0.3,
        ("rotterdam", "pune", "leeds"),
        ("quality-management", "regulation", "data-analysis", "process-improvement", "risk-management"),
    ),
    Department(
        "supply-chain",
        28,
        ("planning", "purchasing", "logistics"),
        0.2,
        ("rotterdam", "campinas"),
        ("supply-chain", "negotiation", "sustainability", "data-visualisation", "risk-management"),
    ),
    Department(
        "field-service",
        36,
        ("repair", "installation", "training"),
        0.4,
        EVERYWHERE,
        ("customer-service", "troubleshooting", "maintenance", "public-speaking", "customer-insight"),
    ),
    Department(
        "sales",
        34,
        ("accounts", "tenders", "inside-sales"),
        0.0,
        EVERYWHERE,
        ("sales", "negotiation", "storytelling", "customer-insight", "networking"),
    ),
    Department(
        "marketing",
        20,
        ("communications", "product-marketing", "events"),
        0.0,
        ("rotterdam", "leeds", "montreal"),
        ("social-media", "branding", "storytelling", "content-creation", "market-research"),
    ),
    Department(
        "finance",
        24,
        ("accounting", "controlling", "treasury"),
        0.0,
        ("rotterdam", "leeds", "pune"),
        ("financial-planning", "budgeting", "data-analysis", "risk-management", "spreadsheets"),
    ),
    Department(
        "people",
        18,
        ("recruiting", "learning", "payroll"),
        0.0,
        ("rotterdam", "leeds", "pune"),
        ("coaching", "inclusion", "recruiting", "wellbeing", "feedback-culture"),
    ),
    Department(
        "information-technology",
        26,
        ("platforms", "security", "support"),
        0.15,
        ("rotterdam", "pune"),
        ("cloud-computing", "cyber-security", "generative-ai", "software-engineering", "troubleshooting"),
    ),
    Department(
        "legal",
        10,
        ("contracts", "compliance"),
        0.0,
        ("rotterdam", "leeds"),
        ("contract-law", "regulation", "data-protection", "negotiation", "risk-management"),
    ),
    Department(
        "medical-affairs",
        16,
        ("clinical", "studies", "safety"),
        0.0,
        ("rotterdam", "montreal", "leeds"),
        ("clinical-practice", "research-methods", "regulation", "public-speaking", "data-analysis"),
    ),
)

FRESH = (
    "generative-ai", "social-media", "automation", "data-visualisation", "digital-collaboration", "sustainability",
    "inclusion", "content-creation", "new-generations-at-work", "cyber-security", "user-experience", "remote-work",
    "wellbeing", "agile-delivery",
)  # fmt: skip
"""What those with fewer years tend to bring, and those with more of them to wonder about."""

SEASONED = (
    "strategy", "leadership", "negotiation", "decision-making", "organisational-politics", "career-development",
    "financial-planning", "public-speaking", "stakeholder-management", "people-management", "networking",
    "conflict-resolution", "coaching", "industry-knowledge",
)  # fmt: skip
"""What comes with years, and what those with fewer of them tend to wonder about."""
