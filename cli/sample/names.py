"""Given and family names of many cultures, in their own spelling. They are combined at random."""

NAMES: dict[str, tuple[str, str]] = {
    "dutch": (
        "Anouk Bram Daan Eva Femke Joris Lotte Maarten Sanne Thijs Wouter Zoë",
        "Bakker|de Boer|van Dijk|Hendriks|Jansen|Kuipers|Mulder|Peeters|Smits|van der Veen|Vermeer|de Wit",
    ),
    "english": (
        "Alice Benjamin Charlotte Edward Grace Harriet Isaac Martha Oliver Rosalind Samuel Thomas",
        "Ashworth|Barker|Clarke|Fletcher|Hargreaves|Holroyd|Marsden|Pickering|Shaw|Thornton|Whitaker|Wood",
    ),
    "irish": (
        "Aoife Cian Ciarán Deirdre Niamh Oisín Róisín Seán",
        "Byrne|Doyle|Gallagher|Kavanagh|Murphy|Ní Bhriain|O'Connor|O'Sullivan",
    ),
    "marathi": (
        "Aditya Anjali Chinmay Gauri Madhura Nikhil Omkar Pooja Rohan Sayali Sneha Tejas",
        "Apte|Bhosale|Deshpande|Gokhale|Joshi|Kale|Kulkarni|Patil|Phadke|Sathe|Shinde|Wagh",
    ),
    "indian": (
        "Arjun Divya Farhan Harpreet Ishaan Kavya Lakshmi Meera Priya Rahul Sunita Vikram",
        "Banerjee|Chandran|Gupta|Iyer|Khan|Kaur|Mehta|Nair|Rao|Reddy|Sharma|Singh",
    ),
    "brazilian": (
        "Adriana Beatriz Caio Débora Fernanda Gustavo Henrique João Larissa Luíza Rafael Thiago",
        "Almeida|Araújo|Barbosa|Cardoso|Carvalho|Ferreira|Gonçalves|Nascimento|Oliveira|Ribeiro|Santos|Teixeira",
    ),
    "quebecois": (
        "Amélie Étienne Geneviève Guillaume Jérôme Maude Noémie Sébastien",
        "Bélanger|Bouchard|Côté|Gagnon|Lavoie|Pelletier|Roy|Tremblay",
    ),
    "canadian": (
        "Abigail Claire Dylan Ethan Hannah Lucas Morgan Sydney",
        "Campbell|Fraser|MacLeod|McKenzie|Morrison|Reid|Stewart|Wallace",
    ),
    "chinese": ("Hui Jian Jing Lei Ming Wei Xin Yan", "Chen|Huang|Li|Liu|Wang|Wu|Zhang|Zhou"),
    "japanese": ("Aiko Haruto Kenji Misaki Ren Sakura Takumi Yui", "Fujita|Hayashi|Kobayashi|Mori|Sato|Tanaka"),
    "korean": ("Eun-ji Ha-joon Ji-woo Min-jun Seo-yeon Soo-ah", "Choi|Jung|Kang|Kim|Lee|Park"),
    "vietnamese": ("An Hương Linh Minh Thảo Tuấn", "Bùi|Đặng|Lê|Nguyễn|Phạm|Trần"),
    "polish": (
        "Agnieszka Bartosz Joanna Łukasz Małgorzata Paweł Wojciech Zofia",
        "Dąbrowska|Kowalczyk|Mazur|Nowak|Pawlak|Wójcik|Wrona|Zając",
    ),
    "turkish": ("Aylin Burak Deniz Elif Emre Selin", "Aydın|Çelik|Demir|Kaya|Şahin|Yılmaz"),  # noqa: RUF001 - spelled as they spell it
    "arab": ("Amal Hassan Khalid Layla Nour Omar Samira Youssef", "Al-Khatib|El Amrani|Haddad|Mansour|Nasser|Saleh"),
    "surinamese": ("Aisha Dwight Giovanni Maureen Shanti Winston", "Abrahams|Biervliet|Pinas|Ramdin|Sedney|Vrede"),
    "nigerian": ("Adaeze Chinedu Folake Ifeoma Olumide Tunde", "Adeyemi|Balogun|Eze|Nwosu|Okafor|Okonkwo"),
    "ghanaian": ("Abena Ama Kofi Kwame Yaa", "Asante|Boateng|Mensah|Osei|Owusu"),
    "kenyan": ("Achieng Kamau Njeri Otieno Wanjiru", "Kimani|Mwangi|Odhiambo|Wambui"),
    "jamaican": ("Keisha Marlon Nadine Tremaine", "Blake|Grant|Morgan|Powell"),
    "colombian": ("Andrés Camila Juliana Mateo Sofía Valentina", "Gómez|Hernández|Londoño|Muñoz|Peña|Restrepo"),
    "greek": ("Alexandros Eleni Katerina Nikos", "Georgiou|Nikolaidis|Papadopoulos|Vlachos"),
    "ukrainian": ("Andriy Iryna Kateryna Oksana Taras", "Bondarenko|Kovalenko|Melnyk|Shevchenko"),
    "filipino": ("Angelica Jomar Maricel Paolo", "Bautista|Dela Cruz|Reyes|Villanueva"),
    "iranian": ("Dariush Nasrin Shirin Siavash", "Ahmadi|Hosseini|Karimi|Rostami"),
    "tamil": ("Karthik Nithya Senthil Yamini", "Murugan|Raman|Selvam|Subramanian"),
}

ALL_CULTURES = tuple(sorted(NAMES))
"""At each site, some names come from all cultures."""
