"""The numbers of PKCS#11's return codes: python-pkcs11 tells them by classes, and those without one in words."""

import re

from pkcs11 import PKCS11Error

_NUMBERS = {
    "HostMemory": 0x002,
    "SlotIDInvalid": 0x003,
    "GeneralError": 0x005,
    "FunctionFailed": 0x006,
    "ArgumentsBad": 0x007,
    "AttributeReadOnly": 0x010,
    "AttributeSensitive": 0x011,
    "AttributeTypeInvalid": 0x012,
    "AttributeValueInvalid": 0x013,
    "DataInvalid": 0x020,
    "DataLenRange": 0x021,
    "DeviceError": 0x030,
    "DeviceMemory": 0x031,
    "DeviceRemoved": 0x032,
    "EncryptedDataInvalid": 0x040,
    "EncryptedDataLenRange": 0x041,
    "FunctionCancelled": 0x050,
    "FunctionNotSupported": 0x054,
    "KeyHandleInvalid": 0x060,
    "KeySizeRange": 0x062,
    "KeyTypeInconsistent": 0x063,
    "KeyUnextractable": 0x06A,
    "MechanismInvalid": 0x070,
    "MechanismParamInvalid": 0x071,
    "ObjectHandleInvalid": 0x082,
    "OperationActive": 0x090,
    "OperationNotInitialized": 0x091,
    "PinIncorrect": 0x0A0,
    "PinInvalid": 0x0A1,
    "PinLenRange": 0x0A2,
    "PinExpired": 0x0A3,
    "PinLocked": 0x0A4,
    "SessionClosed": 0x0B0,
    "SessionCount": 0x0B1,
    "SessionHandleInvalid": 0x0B3,
    "SessionReadOnly": 0x0B5,
    "SessionReadWriteSOExists": 0x0B8,
    "TemplateIncomplete": 0x0D0,
    "TemplateInconsistent": 0x0D1,
    "TokenNotPresent": 0x0E0,
    "TokenNotRecognised": 0x0E1,
    "TokenWriteProtected": 0x0E2,
    "UnwrappingKeyHandleInvalid": 0x0F0,
    "UserAlreadyLoggedIn": 0x100,
    "UserNotLoggedIn": 0x101,
    "UserPinNotInitialized": 0x102,
    "AnotherUserAlreadyLoggedIn": 0x104,
    "UserTooManyTypes": 0x105,
    "WrappedKeyInvalid": 0x110,
    "FunctionRejected": 0x200,
}
_WORDS = (
    ("Buffer was too small", 0x150),
    ("(not initialized)", 0x190),
    ("(already initialized)", 0x191),
    ("User type invalid", 0x103),
    ("Parallel not supported", 0x0B4),
)
_NUMBER = re.compile(r"0x([0-9a-f]{1,16})L?$")


def code_of(fault: PKCS11Error) -> int:
    """Return the number of a library's error; 0 for one that no library gave."""
    if type(fault) is not PKCS11Error:
        return _NUMBERS.get(type(fault).__name__, 0)
    said = str(fault)
    if found := _NUMBER.search(said):
        return int(found[1], 16)
    return next((number for words, number in _WORDS if words in said), 0)
