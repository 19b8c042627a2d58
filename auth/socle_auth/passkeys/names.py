"""What a passkey is called at first: the name of the authenticator model (its AAGUID), as its makers publish it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

UNKNOWN = "Passkey"

_MODELS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "1Password": ("bada5566-a7aa-401f-bd96-45619a55120d",),
        "Apple Passwords": ("fbfc3007-154e-4ecc-8c0b-6e020557d7bd",),
        "Bitwarden": ("d548826e-79b4-db40-a3d8-11116f7e8349",),
        "Chrome on Mac": ("adce0002-35bc-c60a-648b-0b25f1f05503",),
        "Dashlane": ("531126d6-e717-415c-9320-3d9aa6981239",),
        "Devolutions": ("de503f9c-21a4-4f76-b4b7-558eb55c6f89",),
        "Edge on Mac": ("771b48fd-d3d4-4f74-9232-fc157ab0507a",),
        "Enpass": ("f3809540-7f14-49c1-a8b3-8f813b225541",),
        "Google Password Manager": ("ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4",),
        "Google Titan Security Key v2": ("42b4fb4a-2866-43b2-9bf7-6c6669c2e5d3",),
        "iCloud Keychain (Managed)": ("dd4ec289-e01d-41c9-bb89-70fa845d4bf2",),
        "Kaspersky Password Manager": ("a10c6dd9-465e-4226-8198-c7c44b91c555",),
        "KeePassDX": ("eaecdef2-1c31-5634-8639-f1cbd9c00a08",),
        "KeePassXC": ("fdb141b2-5d84-443e-8a35-4698c205a502",),
        "Keeper": ("0ea242b4-43c4-4a1b-8b17-dd6d0b6baec6",),
        "LastPass": ("b78a0a55-6ef8-d246-a042-ba0f6d55050c",),
        "LogMeOnce": ("22248c4c-7a12-46e2-9a41-44291b373a4d",),
        "Microsoft Password Manager": ("d3452668-01fd-4c12-926c-83a4204853aa",),
        "Nitrokey 3 AM": ("2cd2f727-f6ca-44da-8f48-5c2e5da000a2",),
        "NordPass": ("b84e4048-15dc-4dd0-8640-f4f60813c8af",),
        "Proton Pass": ("50726f74-6f6e-5061-7373-50726f746f6e",),
        "Samsung Pass": ("53414d53-554e-4700-0000-000000000000",),
        "Security Key by Yubico": (
            "f8a011f3-8c0a-4d15-8006-17111f9edc7d",
            "b92c3f9a-c014-4056-887f-140a2501163b",
        ),
        "Security Key by Yubico with NFC": (
            "149a2021-8ef6-4133-96b8-81f8d5b7f1f5",
            "6d44ba9b-f6ec-2e49-b930-0c8fe920cb73",
        ),
        "ToothPic Passkey Provider": ("cc45f64e-52a2-451b-831a-4edd8022a202",),
        "Windows Hello": (
            "08987058-cadc-4b81-b6e1-30de50dcbe96",
            "9ddd1817-af5a-4672-a2b9-3e3dd95000a9",
            "6028b017-b1d4-4c02-b4b3-afcdafc96bb2",
        ),
        "YubiKey 5 Series": (
            "19083c3d-8383-4b18-bc03-8f1c9ab2fd1b",
            "cb69481e-8ff7-4039-93ec-0a2729a154a8",
            "ee882879-721c-4913-9775-3dfcce97072a",
            "ff4dac45-ede8-4ec2-aced-cf66103f4335",
        ),
        "YubiKey 5 Series with NFC": (
            "fa2b99dc-9e39-4257-8f92-4a30d23c4118",
            "2fc0579f-8113-47ea-b116-bb5a8db9202a",
            "d7781e5d-e353-46aa-afe2-3ca49f13332a",
            "a25342c0-3cdc-4414-8e46-f4807fca511c",
        ),
        "YubiKey Bio Series": (
            "d8522d9f-575b-4866-88a9-ba99fa02f35b",
            "dd86a2da-86a0-4cbe-b462-4bd31f57bc6f",
            "7409272d-1ff9-4e10-9fc9-ac0019c124fd",
            "ad08c78a-4e41-49b9-86a2-ac15b06899e2",
        ),
        "Zoho Vault": ("b35a26b2-8f6e-4697-ab1d-d44db4da28c6",),
    }
)
_NAMES: Mapping[str, str] = MappingProxyType({model: name for name, models in _MODELS.items() for model in models})


def name_of_model(aaguid: str | None) -> str:
    """The authenticator's name, or "Passkey" for one that does not tell or is not in the table."""
    return _NAMES.get((aaguid or "").lower(), UNKNOWN)
