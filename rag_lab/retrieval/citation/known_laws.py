"""Names of Indonesian laws that everybody uses and no title spells out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def _named(rows: str) -> Mapping[str, tuple[str, ...]]:
    """One law a line: `name, other name: key key`, likeliest key first."""
    table = {}
    for row in filter(None, map(str.strip, rows.splitlines())):
        names, _, keys = row.partition(":")
        table.update(dict.fromkeys((name.strip() for name in names.split(",")), (*keys.split(),)))
    return table


CODES: Final = _named("""
    kuhp, kuh pidana, kitab undang undang hukum pidana, criminal code, penal code: kuhp uu-2023-1
    kuhp baru, kuhp nasional, new criminal code: uu-2023-1
    kuhp lama, wetboek van strafrecht, old criminal code: kuhp
    kuhperdata, kuh perdata, kuhper, bw, burgerlijk wetboek, civil code: kuhperdata
    kitab undang undang hukum perdata: kuhperdata
    kuhap, kitab undang undang hukum acara pidana: kuhap uu-2025-20 uu-1981-8
    kuhd, kuh dagang, kitab undang undang hukum dagang, commercial code: kuhd
    uud, uud 1945, uud 45, uud nri 1945, uud nri tahun 1945, 1945 constitution: uud-1945
    uud tahun 1945, uud negara republik indonesia tahun 1945: uud-1945
    uud ri 1945, uud negara republik indonesia 1945, uud ri tahun 1945: uud-1945
    undang undang dasar, undang undang dasar 1945, undang undang dasar tahun 1945: uud-1945
    undang undang dasar negara republik indonesia tahun 1945: uud-1945
    undang undang dasar negara republik indonesia 1945: uud-1945
    undang undang dasar republik indonesia 1945: uud-1945
    khi, kompilasi hukum islam: khi inpres-1991-1
    company law, limited liability company law: uu-2007-40
    consumer protection law: uu-1999-8
    manpower law, labor law, labour law: uu-2003-13
    job creation law: uu-2020-11 uu-2023-6
    marriage law: uu-1974-1 uu-2019-16
    anti corruption law: uu-1999-31 uu-2001-20
    human rights law: uu-1999-39
    personal data protection law: uu-2022-27
    bankruptcy law: uu-2004-37
""")
"""Names that need no "UU" before them."""

NICKNAMES: Final = _named("""
    pt, perseroan, perseroan terbatas: uu-2007-40
    tipikor, korupsi, tindak pidana korupsi, antikorupsi, anti korupsi: uu-1999-31 uu-2001-20
    pemberantasan tindak pidana korupsi, pemberantasan korupsi: uu-1999-31 uu-2001-20
    kpk: uu-2002-30 uu-2019-19 uu-2015-10
    ite, informasi dan transaksi elektronik: uu-2008-11 uu-2016-19 uu-2024-1
    perkawinan, pernikahan: uu-1974-1 uu-2019-16
    ketenagakerjaan, naker, tenaga kerja: uu-2003-13
    cipta kerja, ciptaker, ciptakerja, omnibus law: uu-2020-11 uu-2023-6
    ham, hak asasi manusia: uu-1999-39
    pk, konsumen, perlindungan konsumen: uu-1999-8
    kip, keterbukaan informasi publik, keterbukaan informasi: uu-2008-14
    bpjs, badan penyelenggara jaminan sosial: uu-2011-24
    sjsn, sistem jaminan sosial nasional: uu-2004-40
    desa: uu-2014-6 uu-2024-3
    merek: uu-2016-20
    paten: uu-2016-13 uu-2024-65
    hak cipta: uu-2014-28
    desain industri: uu-2000-31
    rahasia dagang: uu-2000-30
    minerba, pertambangan: uu-2009-4 uu-2020-3
    migas: uu-2001-22
    perbankan: uu-1992-7 uu-1998-10
    perbankan syariah: uu-2008-21
    kepailitan, pailit, pkpu, kepailitan dan pkpu: uu-2004-37
    pasar modal: uu-1995-8
    pa, agraria, pokok agraria: uu-1960-5
    pdp, pelindungan data pribadi, perlindungan data pribadi: uu-2022-27
    hpp, harmonisasi peraturan perpajakan: uu-2021-7
    kup: uu-1983-6 uu-2007-28 uu-2009-16 uu-2000-16
    pph, pajak penghasilan: uu-1983-7 uu-2008-36
    ppn: uu-1983-8 uu-2009-42
    adminduk, administrasi kependudukan: uu-2006-23 uu-2013-24
    sisdiknas, sistem pendidikan nasional: uu-2003-20
    dikti, pendidikan tinggi: uu-2012-12
    guru dan dosen: uu-2005-14
    llaj, lalu lintas, lalu lintas dan angkutan jalan: uu-2009-22
    narkotika, narkoba: uu-2009-35
    psikotropika: uu-1997-5
    tppu, pencucian uang: uu-2010-8
    pkdrt, kdrt, penghapusan kdrt: uu-2004-23
    tpks, tindak pidana kekerasan seksual: uu-2022-12
    tppo, perdagangan orang: uu-2007-21
    sppa, peradilan anak, sistem peradilan pidana anak: uu-2012-11
    perlindungan anak: uu-2002-23 uu-2014-35
    pers: uu-1999-40
    penyiaran: uu-2002-32
    ojk, otoritas jasa keuangan: uu-2011-21
    bi, bank indonesia: uu-1999-23
    p2sk, ppsk: uu-2023-4
    pemda, pemerintahan daerah, otonomi daerah: uu-2014-23
    pemilu, pemilihan umum: uu-2017-7
    pilkada: uu-2015-1 uu-2016-10
    parpol, partai politik: uu-2008-2 uu-2011-2
    md3: uu-2014-17
    asn, aparatur sipil negara: uu-2023-20 uu-2014-5
    ormas, organisasi kemasyarakatan: uu-2013-17
    kesehatan: uu-2023-17 uu-2009-36
    pplh, lingkungan, lingkungan hidup: uu-2009-32
    kehutanan: uu-1999-41
    koperasi, perkoperasian: uu-1992-25
    umkm: uu-2008-20
    fidusia, jaminan fidusia: uu-1999-42
    hak tanggungan: uu-1996-4
    arbitrase: uu-1999-30
    pphi, phi: uu-2004-2
    serikat pekerja: uu-2000-21
    antimonopoli, anti monopoli, persaingan usaha, larangan praktik monopoli: uu-1999-5
    zakat: uu-2011-23 uu-1999-38
    wakaf: uu-2004-41
    haji: uu-2019-8 uu-2008-13
    advokat: uu-2003-18
    notaris, jabatan notaris: uu-2004-30 uu-2014-2
    kewarganegaraan: uu-2006-12
    imigrasi, keimigrasian: uu-2011-6
    terorisme: uu-2003-15 uu-2018-5
    yayasan: uu-2001-16
    penanaman modal: uu-2007-25
    asuransi, perasuransian: uu-2014-40
    kehakiman, kekuasaan kehakiman: uu-2009-48
    mk, mahkamah konstitusi: uu-2003-24 uu-2011-8 uu-2020-7
    ma, mahkamah agung: uu-1985-14 uu-2004-5 uu-2009-3
    ky, komisi yudisial: uu-2004-22 uu-2011-18
    ptun, peratun, peradilan tun: uu-1986-5 uu-2004-9 uu-2009-51
    peradilan agama: uu-1989-7 uu-2006-3 uu-2009-50
    keuangan negara: uu-2003-17
    bumn: uu-2003-19 uu-2025-1
    administrasi pemerintahan: uu-2014-30
    pelayanan publik: uu-2009-25
    pornografi: uu-2008-44
    otsus papua: uu-2001-21 uu-2021-2
    aceh, pemerintahan aceh: uu-2006-11
    ikn, ibu kota negara: uu-2022-3
    tapera: uu-2016-4
    jph, jaminan produk halal: uu-2014-33
    p3, pembentukan peraturan perundang undangan: uu-2011-12 uu-2019-15
""")
"""Names after "UU" or "Undang-Undang"."""
