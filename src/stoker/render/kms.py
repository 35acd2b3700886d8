"""Keys of KMS: what their account may do with them."""

ADMINISTER = (
    *(
        "DescribeKey",
        "GetKeyPolicy",
        "PutKeyPolicy",
        "ListKeyPolicies",
        "EnableKey",
        "DisableKey",
        "UpdateKeyDescription",
    ),
    *("GetKeyRotationStatus", "EnableKeyRotation", "DisableKeyRotation", "ScheduleKeyDeletion", "CancelKeyDeletion"),
    *("TagResource", "UntagResource", "ListResourceTags", "CreateGrant", "ListGrants", "RevokeGrant"),
)
"""All but to use it, action by action: a key's policy names no wildcard."""
