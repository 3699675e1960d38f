"""Stored receipts: one document for each attempt to propose a pair."""

from collections.abc import Sequence

from chassis.storage.mongo import Document, Documents, Index
from contracts.errors import NotFound
from services.matcher.domain.receipts.receipt import SIDES, Receipt

RECEIPT_INDEXES: list[Index] = [
    *((f"members.{side}",) for side in SIDES),
    *((f"chosen.runner_up.{side}.member_id",) for side in SIDES),
]


class ReceiptStore(Documents):
    async def load(self, id: str | None) -> Receipt:
        """Raises ``NotFound``."""
        document = await self.get(id) if id is not None else None
        if document is None:
            raise NotFound("receipt")
        return Receipt.model_validate(document)

    async def add(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """Save new receipts; returns the stored ones that were saved earlier under the same ids and stay."""
        existing = await self.add_many([_document(receipt) for receipt in receipts])
        if not existing:
            return []
        documents = await self.get_many([document["_id"] for document in existing])
        return [Receipt.model_validate(document) for document in documents.values()]

    async def delete_ids(self, ids: Sequence[str]) -> None:
        await self.delete({"_id": {"$in": list(ids)}})

    async def forget_member(self, member_id: str) -> None:
        """Delete the receipts of a member's own pairs, and the member from those that name them as the runner-up."""
        await self.delete({"$or": [{f"members.{side}": member_id} for side in SIDES]})
        for side in SIDES:
            field = f"chosen.runner_up.{side}"
            await self.unset({f"{field}.member_id": member_id}, field)


def _document(receipt: Receipt) -> Document:
    return {**receipt.model_dump(mode="json"), "_id": receipt.receipt_id}
